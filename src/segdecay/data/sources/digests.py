"""Files as the hash of their content. Decodes nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from segdecay.data.parallel import ordered_map
from segdecay.data.pictures import UnusableError
from segdecay.data.sources.reading import read_bytes


def digest_of(path: Path) -> str:
    """sha256 of a file's content; of its failure where it cannot be read, which `samples` then reports."""
    try:
        return hashlib.sha256(read_bytes(path)).hexdigest()
    except UnusableError as error:
        return hashlib.sha256(str(error).encode()).hexdigest()


def digests_of(paths: Iterable[Path]) -> dict[Path, str]:
    """The digest of every file, read with all cores."""
    distinct = list(dict.fromkeys(paths))
    return dict(zip(distinct, ordered_map(digest_of, distinct), strict=True))
