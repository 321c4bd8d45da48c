"""Files beside the listed ones that no list names. Knows names of files; opens none."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path, PurePosixPath

from segdecay.data.checks import Notebook, names_of
from segdecay.data.sources.pairs import SUFFIXES


def note_unlisted(root: Path, used: Collection[PurePosixPath], list_name: str, notebook: Notebook) -> None:
    """Note the images and masks that lie in the same folders as the used files and that the list does not name."""
    names = {str(path) for path in used}
    spare = []
    for folder in sorted({path.parent for path in used}):
        for entry in sorted((root / folder).iterdir()):
            path = folder / entry.name
            if not entry.name.startswith(".") and path.suffix.lower() in SUFFIXES and str(path) not in names:
                spare.append(str(path))
    if not spare:
        return
    seen = "Two files lie" if len(spare) == 2 else f"{len(spare)} files lie" if len(spare) > 1 else "One file lies"
    message = (
        f"{seen} beside the listed ones and {'are' if len(spare) > 1 else 'is'} named nowhere in {list_name}: "
        f"{names_of(spare)}. Nothing reads them; list them if they belong to the set."
    )
    notebook.finding("note", "file_unlisted", message, spare[0])
