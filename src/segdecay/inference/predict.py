"""Prediction of masks for files, folders and patterns, image by image; a broken image does not stop the others."""

from __future__ import annotations

import glob
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from segdecay.data.dataset import IGNORE
from segdecay.errors import ConfigError, DataError, DiskFullError, ModelError, RunError, describe_os_error, gather
from segdecay.inference.apply import Tiling, check_tiling_of, plan_of, predicted_blocks
from segdecay.inference.coco import MOST_PIXELS as MOST_COCO_PIXELS
from segdecay.inference.coco import CocoFile
from segdecay.inference.image_io import SUFFIXES, ImageFile, open_image
from segdecay.inference.outputs import DEFAULT, Writers, bands_of, check_save, path_of
from segdecay.inference.predictor import Predictor
from segdecay.utils.files import read_json, write_json

CARD = "predictions.json"  # marks a folder of predictions
KIND = "predictions"
CARD_EVERY_S = 5.0


@dataclass(frozen=True)
class Predicted:
    """The results of one image."""

    image: Path
    files: Mapping[str, Path]  # by kind, for example "mask"
    height: int
    width: int
    windows: int
    pixels: Mapping[str, int]  # predicted pixels by class
    confidence: float  # mean probability of the predicted class over pixels with data
    seconds: float
    nodata: int = 0  # pixels without data: 255 in the mask, and of no class


@dataclass(frozen=True)
class Failed:
    """An image that could not be predicted, and why."""

    image: Path
    reason: str


@dataclass(frozen=True)
class Result:
    """The result of `predict_files`."""

    done: tuple[Predicted, ...]
    failed: tuple[Failed, ...]


@dataclass
class PredictionWatcher:
    """Receives progress events; every part is optional."""

    on_plan: Callable[[int], None] = lambda _images: None
    on_start: Callable[[Path, int], None] = lambda _image, _windows: None
    on_window: Callable[[int], None] = lambda _done: None
    on_done: Callable[[Any], None] = lambda _done: None
    on_failed: Callable[[Failed], None] = lambda _failed: None


@dataclass(frozen=True)
class Request:
    """The request: results to save, tiles, and the facts about the models for the folder's card."""

    save: tuple[str, ...] = DEFAULT
    tiling: Tiling = field(default_factory=Tiling)
    made_by: Mapping[str, Any] = field(default_factory=dict)


def find_images(paths: Sequence[Path], out: Path | None = None) -> list[tuple[Path, Path]]:
    """(file, relative name without suffix) of every image in files, folders and patterns (*, ?, **), sorted.

    out: the folder of results, which is not searched.

    Raises:
        DataError: a path is missing, a file has another suffix, nothing is found, or two images share a name.
    """
    found: list[tuple[Path, Path]] = []
    faults = []
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
            inside = [p for p in inside if out is None or not p.resolve().is_relative_to(out.resolve())]
            if not inside:
                faults.append(f"{path} holds no image ({', '.join(SUFFIXES)}).")
            found += [(p, p.relative_to(path).with_suffix("")) for p in inside]
        elif path.exists():
            if path.suffix.lower() not in SUFFIXES:
                faults.append(f"{path} has an unsupported suffix; allowed: {', '.join(SUFFIXES)}.")
            found.append((path, Path(path.stem)))
        elif glob.has_magic(str(path)):
            matches = sorted(Path(name) for name in glob.glob(str(path), recursive=True))  # noqa: PTH207
            matches = [p for p in matches if p.suffix.lower() in SUFFIXES and p.is_file()]
            if not matches:
                faults.append(f"{path} matches no image ({', '.join(SUFFIXES)}).")
            found += [(p, Path(p.stem)) for p in matches]
        else:
            faults.append(f"{path} does not exist.")
    names: dict[Path, Path] = {}
    for path, name in dict.fromkeys(found):
        if name in names and names[name].resolve() != path.resolve():
            faults.append(f"{path} and {names[name]} would both be written as {name}; predict them separately.")
        names[name] = path
    gather(DataError, faults)
    return [(path, name) for name, path in names.items()]


def check_out(out: Path, made_by: Mapping[str, Any]) -> dict[str, Any]:
    """The card of a folder that may be written to: new, empty, or predictions of the same models in the same way.

    Raises:
        RunError: a file, or a folder that holds something else.
    """
    if not out.exists():
        return {}
    if not out.is_dir():
        raise RunError(f"{out} is a file; --out takes a folder.")
    others = sorted(path.name for path in out.iterdir())
    if not others:
        return {}
    try:
        card = read_json(out / CARD)
        is_ours = card["kind"] == KIND and isinstance(card["images"], list)
    except (OSError, ValueError, KeyError, TypeError):
        is_ours = False
    if not is_ours:
        raise RunError(
            f"{out} holds other files ({', '.join(others[:3])}), and no {CARD} of segdecay. Choose another --out."
        )
    different = sorted(key for key in {*made_by, *card["made_by"]} if made_by.get(key) != card["made_by"].get(key))
    if different:
        shown = "; ".join(f"{key}: {card['made_by'].get(key)} → {made_by.get(key)}" for key in different)
        raise RunError(f"{out} holds predictions with other models or options ({shown}). Choose another --out.")
    return card


def predict_files(
    predictor: Predictor,
    paths: Sequence[Path],
    out: Path,
    request: Request = Request(),
    watcher: PredictionWatcher | None = None,
) -> Result:
    """Predict every image and write the requested results under `out`, listed in predictions.json.

    Raises:
        ConfigError: results or tiles that do not exist; all faults together.
        DataError: paths that are no images; nothing is written.
        RunError: `out` holds something else, or cannot be written.
        DiskFullError: the disk is full; images before are finished.
    """
    gather(ConfigError, check_save(request.save))
    check_tiling_of(request.tiling, predictor)
    card = check_out(out, request.made_by)
    images = find_images(paths, out)
    watcher = watcher or PredictionWatcher()
    watcher.on_plan(len(images))
    done: list[Predicted] = []
    failed: list[Failed] = []
    try:
        out.mkdir(parents=True, exist_ok=True)
        coco = CocoFile.read(out / "coco.json", predictor.classes) if "coco" in request.save else None
        _write_card(out, request, card, done, failed)
        written = time.monotonic()
        for path, name in images:
            try:
                row = _predict_file(predictor, path, name, out, request, coco, watcher)
            except (DataError, ModelError) as error:
                failed.append(Failed(path, str(error)))
                watcher.on_failed(failed[-1])
            else:
                done.append(row)
                watcher.on_done(row)
            if time.monotonic() - written > CARD_EVERY_S:  # it lists all images, so once per image would be quadratic
                _write_card(out, request, card, done, failed)
                written = time.monotonic()
        if coco is not None:
            coco.write()
        _write_card(out, request, card, done, failed)
    except KeyboardInterrupt:
        _write_card(out, request, card, done, failed)
        raise
    except OSError as error:
        if DiskFullError.is_told_by(error):
            raise DiskFullError(str(error.filename or out)) from error
        raise RunError(f"{describe_os_error(error)}. Choose another --out.") from error
    return Result(tuple(done), tuple(failed))


def _predict_file(
    predictor: Predictor,
    path: Path,
    name: Path,
    out: Path,
    request: Request,
    coco: CocoFile | None,
    watcher: PredictionWatcher,
) -> Predicted:
    start = time.monotonic()
    with open_image(path, predictor.bands, predictor.depth, predictor.chosen_bands) as source:
        height, width, _ = source.shape
        if coco is not None and height * width > MOST_COCO_PIXELS:
            raise DataError(
                f"{path} has {height} x {width} pixels; coco takes at most {MOST_COCO_PIXELS}. "
                "Leave coco out of --save, or cut the image."
            )
        plan = plan_of(predictor, source.shape, request.tiling)
        windows = 1 if plan is None else plan.count
        watcher.on_start(path, windows)
        files = {kind: path_of(out, kind, name, path) for kind in request.save if kind != "coco"}
        counts, confidence, mask = _write_results(predictor, source, files, request, coco is not None, watcher)
    if coco is not None:
        coco.add(name.with_suffix(path.suffix).as_posix(), mask)
        files = {**files, "coco": coco.path}
    return Predicted(
        image=path,
        files=files,
        height=height,
        width=width,
        windows=windows,
        pixels=dict(zip(predictor.classes, counts, strict=True)),
        confidence=confidence / max(1, sum(counts)),
        seconds=time.monotonic() - start,
        nodata=height * width - sum(counts),
    )


def _write_results(
    predictor: Predictor,
    source: ImageFile,
    files: dict[str, Path],
    request: Request,
    keeps_mask: bool,
    watcher: PredictionWatcher,
) -> tuple[list[int], float, np.ndarray[Any, np.dtype[np.uint8]]]:
    """Pixels by class, the sum of the confidence, and the mask if requested (else empty)."""
    counts = np.zeros(len(predictor.classes), np.int64)
    confidence, masks = 0.0, [np.zeros((0, source.shape[1]), np.uint8)]
    blocks = predicted_blocks(predictor, source, request.tiling, watcher.on_window)
    with Writers(files, source.shape, predictor.palette, source.empty) as writers:
        for band in bands_of(blocks, source.shape[1], tuple(files)):
            writers.add(band)
            if source.empty is not None:
                empty = source.empty[band.top : band.top + len(band.mask)]
                band.mask[empty], band.confidence[empty] = IGNORE, 0.0
            counts += np.bincount(band.mask.ravel(), minlength=256)[: len(counts)]
            confidence += float(band.confidence.sum(dtype=np.float64))
            if keeps_mask:
                masks.append(band.mask)
    return [int(count) for count in counts], confidence, np.concatenate(masks)


def _write_card(
    out: Path, request: Request, before: Mapping[str, Any], done: Sequence[Predicted], failed: Sequence[Failed]
) -> None:
    """Write predictions.json: images of this call, and those of earlier calls that were not predicted again."""
    now = {str(row.image) for row in done} | {str(row.image) for row in failed}
    kept = [row for row in before.get("images", []) if row.get("image") not in now]
    write_json(
        out / CARD,
        {
            "kind": KIND,
            "made_by": request.made_by,
            "images": [*kept, *(to_plain(row) for row in done)],
            "failed": [to_plain(row) for row in failed],
        },
    )


def to_plain(row: Predicted | Failed) -> dict[str, Any]:
    """A row as plain JSON."""
    if isinstance(row, Failed):
        return {"image": str(row.image), "reason": row.reason}
    return {
        "image": str(row.image),
        "files": {kind: str(path) for kind, path in row.files.items()},
        "height": row.height,
        "width": row.width,
        "windows": row.windows,
        "pixels": dict(row.pixels),
        **({"nodata": row.nodata} if row.nodata else {}),
        "mean_confidence": round(row.confidence, 6),
        "seconds": round(row.seconds, 3),
    }
