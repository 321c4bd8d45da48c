"""Rich's console for terminals of any encoding: texts are replaced before tables are laid out, so that columns fit."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console
from rich.text import Text

from segdecay.utils.printable import printable, printable_stream


class PrintableConsole(Console):
    """A console that replaces the characters its encoding lacks, as `segdecay.utils.printable`."""

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(printable(text, self.encoding), **options)


def build_console(*, err: bool = False) -> PrintableConsole:
    """Of standard output, or of standard error."""
    return PrintableConsole(file=printable_stream(sys.stderr if err else sys.stdout))
