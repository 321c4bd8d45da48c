"""Text for terminals whose encoding lacks some of our characters: λ becomes "lambda", → becomes "->".

Python's default is to raise UnicodeEncodeError in the middle of a run, for example with PYTHONIOENCODING=cp1252.
"""

from __future__ import annotations

import codecs
import unicodedata
from typing import Any, TextIO, cast

HANDLER = "segdecay"  # name of the error handler for `reconfigure` and `str.encode`
PLAIN = {
    "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "Δ": "Delta", "ε": "epsilon", "η": "eta", "θ": "theta",
    "κ": "kappa", "λ": "lambda", "μ": "mu", "ρ": "rho", "σ": "sigma", "Σ": "sum", "τ": "tau", "√": "sqrt",
    "±": "+-", "×": "x", "·": "*", "⊙": "*", "−": "-", "–": "-", "—": "-", "→": "->", "←": "<-", "≥": ">=", "≤": "<=",
    "≠": "!=", "≈": "~", "∞": "inf", "½": "1/2", "…": "...", "‖": "||", "“": '"', "”": '"', "’": "'", "‘": "'",
    "₀": "0", "✓": "ok", "█": "#", "\u2501": "-", "\u2578": "-", "\u257a": "-", "\u00a0": " ",
}  # fmt: skip


def plain(character: str) -> str:
    r"""A character in ASCII: its name where it has one here, else without its accents, else as an escape.

    >>> plain("λ"), plain("é"), plain("山")
    ('lambda', 'e', '\\u5c71')
    """
    if character in PLAIN:
        return PLAIN[character]
    bare = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return bare or character.encode("ascii", "backslashreplace").decode()


def _replace(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(plain(one) for one in error.object[error.start : error.end]), error.end


codecs.register_error(HANDLER, _replace)


def printable(text: str, encoding: str | None) -> str:
    """The text with every character that the encoding lacks replaced.

    >>> printable("λ ≥ 1, D ± 0.5", "cp1252"), printable("λ", "utf-8")
    ('lambda >= 1, D ± 0.5', 'λ')
    """
    name = encoding or "utf-8"
    return text.encode(name, HANDLER).decode(name)


class PrintableStream:
    """A text stream that writes what its encoding can, and the rest in ASCII; all else is the stream's own."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return self._stream.write(printable(text, self._stream.encoding))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def printable_stream(stream: TextIO) -> TextIO:
    """The stream itself where it can print everything, else a `PrintableStream` around it."""
    encoding = (getattr(stream, "encoding", None) or "utf-8").lower().replace("_", "-")
    return cast("TextIO", stream if encoding.startswith("utf") else PrintableStream(stream))
