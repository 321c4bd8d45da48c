"""Paths that a table or an annotation names: inside the data folder, whatever wrote them. Opens nothing."""

from __future__ import annotations

import posixpath
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Literal

from segdecay.data.checks import Notebook, names_of


def inner_path(text: str, below: str = ".") -> PurePosixPath | None:
    r"""The path relative to the data folder, of a path relative to `below`; None where it leads out of the folder.

    >>> inner_path("../images/a b.png", "json"), inner_path("C:\\x.png"), inner_path("../a.png")
    (PurePosixPath('images/a b.png'), None, None)
    """
    plain = text.strip().replace("\\", "/")
    if not plain or "\0" in plain or plain.startswith("/") or re.match(r"[A-Za-z]:", plain):
        return None
    path = PurePosixPath(posixpath.normpath(posixpath.join(below, plain)))
    return None if path.parts[:1] == ("..",) or not path.parts else path


def existing(root: Path, path: PurePosixPath) -> PurePosixPath | None:
    """The path as the folder spells it: a name may be composed differently there (é as one letter or as two).

    Where nothing stands, None.
    """
    if (root / path).is_file():
        return path
    forms: tuple[Literal["NFC", "NFD"], ...] = ("NFC", "NFD")
    for form in forms:
        other = PurePosixPath(unicodedata.normalize(form, str(path)))
        if (root / other).is_file():
            return other
    return None


def find_inner(root: Path, text: str, below: str, where: str, notebook: Notebook) -> PurePosixPath | None:
    """The file that a line of a table or an annotation names; what is wrong with it is noted at `where`."""
    path = inner_path(text, below)
    if path is None:
        fix = "Name files by paths relative to the data folder, and keep them inside."
        notebook.fault("wrong", "path_outside", where, f"names '{text[:200]}', which is no path inside it.", fix)
        return None
    try:
        found = existing(root, path)
    except OSError:  # a name longer than the system takes
        found = None
    if found is None:
        fix = "Add the file, or remove the entry."
        notebook.fault("wrong", "file_absent", where, f"names {str(path)[:200]}, which is not there.", fix)
    return found


def note_unlisted(root: Path, listed: Iterable[Path], suffixes: Iterable[str], by: str, notebook: Notebook) -> None:
    """Note the visible pictures that lie in the folders of listed files and that nobody lists; by: what would."""
    known, wanted = set(listed), set(suffixes)
    spare = sorted(
        str(path.relative_to(root))
        for folder in {path.parent for path in known}
        for path in folder.iterdir()
        if path.suffix.lower() in wanted and not path.name.startswith(".") and path not in known and path.is_file()
    )
    if spare:
        count = f"{len(spare)} file{'s lie' if len(spare) > 1 else ' lies'} beside listed ones"
        message = (
            f"{count}, and {by} does not name them ({names_of(spare)}): they are not used. List them, or leave them."
        )
        notebook.finding("note", "file_unlisted", message, spare[0])
