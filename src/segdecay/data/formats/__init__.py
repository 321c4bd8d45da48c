"""Builds the source of images and masks, or of images and labels, that the user's DATA names.

A source is one file here and one line in a registry below.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from segdecay.config.schema import DataConfig
from segdecay.data.formats.base import Facts, PlacedSource, Sample, Source
from segdecay.data.formats.cifar10 import CifarSource, find_cifar
from segdecay.data.formats.coco import coco_source
from segdecay.data.formats.digits import ScenesSource
from segdecay.data.formats.folders import FolderSource
from segdecay.data.formats.image_labels import class_folder_source
from segdecay.data.formats.labelme import labelme_source
from segdecay.data.formats.mask_parts import parts_source
from segdecay.data.formats.tables import label_table_source, table_source
from segdecay.data.formats.torchvision import PREFIX, torchvision_source
from segdecay.data.formats.via import via_source
from segdecay.data.formats.voc import voc_source
from segdecay.data.formats.yolo import yolo_source
from segdecay.data.spec import SPEC_NAMES, DatasetSpec, read_spec
from segdecay.errors import ConfigError, DataError, did_you_mean, unknown
from segdecay.utils.plugins import Registry

__all__ = ["Facts", "Sample", "Source", "build_source", "source_of"]

ALLOWED = "a folder with images/ and masks/, a dataset.yaml, digits, cifar10:FOLDER, or torchvision:NAME"

BUILT_IN: Mapping[str, Callable[[], Source]] = {"digits": ScenesSource}
LABELLED: Mapping[str, Callable[[Path, DatasetSpec], Source]] = {  # by `labels` of dataset.yaml; else it is a table
    "folders": class_folder_source,
    "cifar10": CifarSource,
}
Layout = Callable[[Path, DatasetSpec], PlacedSource]
LAYOUTS: Registry[Layout] = Registry(  # by `layout` of dataset.yaml
    "segdecay.formats",
    {
        "folders": FolderSource,
        "table": table_source,
        "coco": coco_source,
        "voc": voc_source,
        "labelme": labelme_source,
        "parts": parts_source,
        "via": via_source,
        "yolo": yolo_source,
    },
)


def build_source(config: DataConfig) -> Source:
    """The source that `config.path` names.

    Raises:
        DataError: the path is missing, is no data set, or names a source that does not exist.
        ConfigError: dataset.yaml or classes.txt is not valid.
    """
    text = config.path
    if text in BUILT_IN:
        return BUILT_IN[text]()
    if text.startswith(PREFIX):
        from segdecay.data.cache import default_cache  # it knows samples, so not at the top

        return torchvision_source(text, default_cache())
    if text.startswith("cifar10:"):
        return CifarSource(Path(text.removeprefix("cifar10:")).expanduser(), cifar_spec())
    path = Path(text).expanduser()
    if path.is_dir():
        return source_of(path, read_spec(path))
    if path.is_file() and path.suffix.lower() in {".yaml", ".yml"}:
        return source_of(path.parent, read_spec(path))
    if path.exists():
        raise DataError(f"'{text}' is a file of another kind. DATA is {ALLOWED}.")
    near = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    found = did_you_mean(text, ["digits"]) or did_you_mean(path.name, near)
    raise DataError(f"'{text}' does not exist. DATA is {ALLOWED}.{found}")


def cifar_spec() -> DatasetSpec:
    """What `cifar10:FOLDER` means: labels of images, left and right exchangeable, every image its own group."""
    return DatasetSpec(task="classification", labels="cifar10")


def source_of(root: Path, spec: DatasetSpec) -> Source:
    """The source of a folder as a spec describes it.

    Raises:
        DataError: it is no data set.
        ConfigError: the spec or classes.txt is not valid.
    """
    if spec.task == "classification":
        return LABELLED.get(spec.labels, label_table_source)(root, spec)
    has_spec = any((root / name).exists() for name in SPEC_NAMES)
    if not has_spec and not (root / spec.images).is_dir() and find_cifar(root) is not None:
        raise DataError(
            f"{root} holds CIFAR-10 and no dataset.yaml. Name it as cifar10:{root}, or let segdecay init {root} write "
            "the lines."
        )
    if spec.layout not in LAYOUTS:
        raise ConfigError(f"dataset.yaml: {unknown('layout', spec.layout, LAYOUTS)}")
    return LAYOUTS[spec.layout](root, spec)
