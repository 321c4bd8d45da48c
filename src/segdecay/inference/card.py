"""The card of a bundle, model.json: its schema, strict validation, and older versions."""

from __future__ import annotations

import errno
import json
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from segdecay.config.schema import ModelConfig, Task, explain
from segdecay.errors import ModelError, gather
from segdecay.runs.records import StrengthRecord

SCHEMA = 2
HASH_DIGITS, MOST_HASHES = 16, 100_000
MOST_CLASSES, MOST_BANDS, MOST_CARD_BYTES = 255, 64, 4 << 20
PLAIN_ENCODER = re.compile(r"[A-Za-z0-9_.\-]{1,100}")  # timm reads hf-hub:… from the network and local-dir:… from disk

Name = Annotated[str, Field(min_length=1, max_length=200)]
Byte = Annotated[int, Field(ge=0, le=255)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Side = Annotated[int, Field(ge=8, le=16384)]
BandNumber = Annotated[int, Field(ge=0, le=65535)]
Band = tuple[float, float]


class Part(pydantic.BaseModel):
    """Unknown keys are ignored, since a newer version with the same schema may add some."""

    model_config = pydantic.ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)


class ClassScore(Part):
    """The score of one class, IoU or recall: over the folds with its interval, of the refit, and its support."""

    name: Name
    pixels: Annotated[int, Field(ge=0)]  # labelled, all parts together
    images: Annotated[int, Field(ge=0)]
    folds: Share | None = None
    interval: Band | None = None
    scored: Share | None = None  # on `scored_on`
    scored_interval: Band | None = None


class CardScores(Part):
    """A mean with its interval."""

    mean: Finite | None
    interval: Band | None = None
    method: str | None = None


class TrainedOn(Part):
    """The training data: name and numbers of images only."""

    name: str
    fingerprint: str
    images: Annotated[int, Field(ge=0)]
    parts: Mapping[str, int] = {}
    hashes: tuple[str, ...] = ()  # of every image with its mask, first HASH_DIGITS of sha256; empty for huge sets


class Search(Part):
    """The result of the search before this training; absent without a search."""

    kind: Literal["chosen", "zero", "flat", "edge", "undertrained"]
    sentence: str
    criterion: str
    confidence: Share
    selection: CardScores
    honest: CardScores | None = None
    cautions: tuple[str, ...] = ()


class Card(Part):
    """The content of model.json.

    mean, deviation: of every band, in the units of the files. size: H, W that images are resized to; None: as they are.
    """

    schema_version: int
    task: Task = "segmentation"  # the default of older cards
    weights_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    classes: Annotated[tuple[Name, ...], Field(min_length=2, max_length=MOST_CLASSES)]
    palette: tuple[tuple[Byte, Byte, Byte], ...]
    bands: Annotated[int, Field(ge=1, le=MOST_BANDS)]
    mean: tuple[Finite, ...]
    deviation: tuple[Positive, ...]
    size: tuple[Side, Side] | None
    scale: Literal["percentile"] | Positive | None = None  # conversion to 8 bits; a number is the value mapped to 255
    nodata: Literal["nan"] | Finite | None = None  # value of pixels without data
    chosen_bands: tuple[BandNumber, ...] | None = None  # of the files; None: all
    grey_as_rgb: bool = False  # grey files become three equal bands
    exif: Literal["apply", "ignore"] = "apply"  # whether files are turned by their EXIF orientation
    model: Mapping[str, Any]
    made_by: Mapping[str, Any] = {}
    trained_on: TrainedOn | None = None
    search: Search | None = None
    scores: tuple[ClassScore, ...] = ()
    scored_on: Literal["test", "val"] | None = None
    miou: Share | None = None  # on `scored_on`
    miou_interval: Band | None = None
    balanced_accuracy: Share | None = None  # on `scored_on`, where images have one label
    exclude_from_mean: tuple[Name, ...] = ()  # classes that these means leave out
    made_with: Mapping[str, str] = {}  # versions of packages

    @pydantic.model_validator(mode="after")
    def _lengths_agree(self) -> Card:
        if not len(self.mean) == len(self.deviation) == self.bands:
            raise ValueError("mean and deviation need one number per band")
        if self.chosen_bands is not None and len(self.chosen_bands) != self.bands:
            raise ValueError("chosen_bands needs as many entries as there are bands")
        if len(self.palette) != len(self.classes):
            raise ValueError("palette needs one colour per class")
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("class names must be distinct")
        if self.scores and [row.name for row in self.scores] != list(self.classes):
            raise ValueError("scores need one row per class, in the order of classes")
        return self

    @property
    def strength(self) -> StrengthRecord | None:
        """The strength that the weights were trained with."""
        found = self.made_by.get("strength")
        return StrengthRecord.from_json(found) if isinstance(found, Mapping) else None


def read_part(path: Path, most_bytes: int) -> bytes:
    """The content of a plain file of a bundle: no link, no device, nothing larger than allowed.

    Raises:
        ModelError: anything else, or it cannot be read.
    """
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(handle, "rb") as file:
            about = os.fstat(file.fileno())
            if not stat.S_ISREG(about.st_mode):
                raise ModelError(f"{path} is not a plain file; a bundle holds plain files only.")
            if about.st_size > most_bytes:
                raise ModelError(f"{path} has {about.st_size:,} bytes; at most {most_bytes:,} are read.")
            return file.read(about.st_size)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise ModelError(f"{path} is a link; a bundle holds plain files only. Copy the file itself.") from error
        raise ModelError(f"{path} cannot be read: {error.strerror or error}.") from error


def read_card(path: Path) -> Card:
    """The validated content of model.json.

    Raises:
        ModelError: damaged, of another schema, or invalid; all faults at once.
    """
    try:
        values = json.loads(read_part(path, MOST_CARD_BYTES))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is damaged: {type(error).__name__}: {error}. Make the bundle again.") from error
    if not isinstance(values, dict):
        raise ModelError(f"{path} holds a {type(values).__name__}, not a card. Make the bundle again.")
    version = values.get("schema_version")
    if not isinstance(version, int) or isinstance(version, bool) or version < SCHEMA:
        raise ModelError(f"{path}: schema_version is {version!r:.50}; allowed: {SCHEMA}. Make the bundle again.")
    if version > SCHEMA:
        raise ModelError(
            f"{path} was written by a newer segdecay: schema {version}, this one reads {SCHEMA}. Upgrade segdecay."
        )
    try:
        card = Card.model_validate_json(json.dumps(values), strict=True)
        ModelConfig.model_validate(values["model"])
    except pydantic.ValidationError as error:
        lines = explain(error, allowed_keys=lambda _path: [])
        gather(ModelError, [line[:300] for line in lines], headline=f"{path} is not a valid card:")
        raise AssertionError from error  # unreachable: gather raises
    except (KeyError, TypeError, RecursionError) as error:
        raise ModelError(f"{path} is damaged: {error}. Make the bundle again.") from error
    return card


def model_of(card: Card, path: Path) -> ModelConfig:
    """The network of a card, which reads no other files and downloads nothing.

    Raises:
        ModelError: an encoder's name that timm would look for outside the bundle.
    """
    config = ModelConfig.model_validate(dict(card.model)).model_copy(update={"pretrained": False, "weights": None})
    if not PLAIN_ENCODER.fullmatch(config.encoder):
        raise ModelError(
            f"{path}: encoder {config.encoder!r:.120} is not a plain name; references to other places are refused."
        )
    return config
