"""DATA, as a user types it, to a source of images and masks."""

from __future__ import annotations

from pathlib import Path

from segdecay.config import DataConfig
from segdecay.data.sources.base import Facts, Sample, Source
from segdecay.data.sources.folders import FolderSource
from segdecay.data.sources.scenes import ScenesSource
from segdecay.data.spec import read_spec
from segdecay.errors import DataError, did_you_mean

__all__ = ["Facts", "Sample", "Source", "build_source"]

ALLOWED = "a folder with images/ and masks/, a dataset.yaml, or digits"


def build_source(config: DataConfig) -> Source:
    """The source that `config.path` names.

    Raises:
        DataError: the path is missing, is no data set, or names a source that does not exist.
        ConfigError: dataset.yaml or classes.txt is not valid.
    """
    text = config.path
    if text == "digits":
        return ScenesSource()
    if text.startswith("torchvision:"):
        raise DataError(f"'{text}': torchvision data sets cannot be read yet. DATA is {ALLOWED}.")
    path = Path(text).expanduser()
    if path.is_dir():
        return FolderSource(path, read_spec(path))
    if path.is_file() and path.suffix.lower() in {".yaml", ".yml"}:
        return FolderSource(path.parent, read_spec(path))
    if path.exists():
        raise DataError(f"'{text}' is a file of another kind. DATA is {ALLOWED}.")
    near = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    found = did_you_mean(text, ["digits"]) or did_you_mean(path.name, near)
    raise DataError(f"'{text}' does not exist. DATA is {ALLOWED}.{found}")
