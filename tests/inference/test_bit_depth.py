"""Prediction reads files as the training did: 16 bits and more, chosen bands, pixels without data."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import source_zoo as zoo
from PIL import Image
from safetensors.torch import save

from segdecay.data.dataset import Dataset, open_dataset
from segdecay.data.images.bit_depth import Depth
from segdecay.errors import DataError, ModelError
from segdecay.inference.bundle import Bundle, load_bundle, write_bundle
from segdecay.inference.card import Card, model_of
from segdecay.inference.evaluate import check_fit
from segdecay.inference.image_io import open_image
from segdecay.inference.model import Model
from segdecay.inference.predict import Request, predict_files
from segdecay.inference.predictor import Predictor, build_predictor
from segdecay.models.unet import UNet
from segdecay.models.zoo import build_model

KINDS: dict[str, tuple[str, Callable[[Any], object] | None]] = {
    "percentile": ("scale: percentile\n", None),
    "maximum and bands": ("scale: {max: 9000}\nbands: [4, 0, 2]\n", None),
    "float with NaN": (
        "scale: percentile\nnodata: .nan\n",
        lambda values: values.__setitem__((0, slice(3), 1), np.nan),
    ),
    "nodata": ("scale: {max: 9000}\nnodata: 7\n", lambda values: values.__setitem__((slice(2), 0), 7)),
}


def _data(root: Path, kind: str) -> Dataset:
    text, edit = KINDS[kind]
    return zoo.dataset(zoo.tiff(root, text, edit=edit))


def _predictor(data: Dataset) -> Predictor:
    bundle = Bundle(
        UNet(data.bands, 2, width=4, depth=2).eval(),
        data.classes,
        ((0, 0, 0), (200, 10, 10)),
        data.bands,
        (100.0,) * data.bands,
        (50.0,) * data.bands,
        None,
        {},
        depth=data.depth,
        chosen_bands=data.chosen_bands,
    )
    return build_predictor([bundle])


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_file_gives_the_bits_of_the_training(tmp_path: Path, kind: str) -> None:
    data = _data(tmp_path / "set", kind)
    again = open_dataset(data.root)
    assert repr(again.depth) == repr(data.depth) != repr(Depth())
    for index, item in enumerate(data.items):
        path = tmp_path / "set" / "images" / f"{Path(item.name).name}.TIF"
        with open_image(path, data.bands, again.depth, again.chosen_bands) as source:
            np.testing.assert_array_equal(source.rows(0, item.height), data.image(index))
            empty = np.zeros(zoo.SIZE, bool) if source.empty is None else source.empty
            np.testing.assert_array_equal(empty, data.mask(index) == 255)


def _mixed(root: Path, text: str) -> Dataset:
    """Grey, grey with alpha, RGB, and a photograph that lies on its side."""
    zoo.write(root, "images/{stem}.png", "masks/{stem}.png")
    zoo.spec(root, f"classes: [background, road]\ngrey_as_rgb: true\n{text}")
    names = [path.name for path in sorted((root / "images").iterdir())]
    for name, mode in zip(names, ("L", "LA"), strict=False):
        picture = Image.open(root / "images" / name).convert(mode)
        picture.save(root / "images" / name)
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.open(root / "images" / names[2]).save(root / "images" / names[2], exif=exif)
    return zoo.dataset(root)


@pytest.mark.parametrize("text", ["exif: ignore\nbands: [0, 1, 2]", "exif: apply\nbands: [2, 1, 0]"])
def test_grey_and_turned_files_are_read_as_in_the_training(tmp_path: Path, text: str) -> None:
    data = _mixed(tmp_path / "set", text)
    predictor = _predictor(open_dataset(data.root))
    for index, item in enumerate(data.items):
        path = tmp_path / "set" / "images" / f"{item.name}.png"
        with open_image(path, 3, predictor.depth, predictor.chosen_bands) as source:
            np.testing.assert_array_equal(source.rows(0, item.height), data.image(index))
        found = Model(predictor).predict(path)
        assert np.array_equal(found, Model(predictor).predict(np.array(data.image(index))))
    assert not predict_files(predictor, sorted((tmp_path / "set" / "images").iterdir()), tmp_path / "out").failed


def test_a_set_of_rgb_alone_fits_a_model_of_grey_as_rgb(tmp_path: Path) -> None:
    predictor = _predictor(_mixed(tmp_path / "mixed", "bands: [0, 1, 2]"))
    zoo.write(tmp_path / "plain", "images/{stem}.png", "masks/{stem}.png")
    zoo.spec(tmp_path / "plain", "classes: [background, road]\nbands: [0, 1, 2]\n")
    assert check_fit(predictor, zoo.dataset(tmp_path / "plain")) == []


def test_pixels_without_data_are_of_no_class(tmp_path: Path) -> None:
    data = _data(tmp_path / "set", "float with NaN")
    path = tmp_path / "set" / "images" / "p1_a.TIF"
    request = Request(save=("mask", "overlay", "confidence"))
    result = predict_files(_predictor(data), [path], tmp_path / "out", request)
    row = result.done[0]
    assert row.nodata == 3
    assert sum(row.pixels.values()) == 80 - 3
    assert 0.5 <= row.confidence <= 1
    mask = np.asarray(Image.open(row.files["mask"]))
    assert np.argwhere(mask == 255).tolist() == [[0, 0], [0, 1], [0, 2]]
    assert not np.asarray(Image.open(row.files["overlay"]))[0, :3].any()


def test_a_model_of_8_bits_says_what_the_file_is(tmp_path: Path) -> None:
    data = _data(tmp_path / "set", "percentile")
    plain = replace(_predictor(data).bundles[0], depth=Depth())
    result = predict_files(build_predictor([plain]), [tmp_path / "set" / "images" / "p1_a.TIF"], tmp_path / "out")
    assert "is 16-bit uint16" in result.failed[0].reason


def test_an_absent_band_is_told(tmp_path: Path) -> None:
    path = tmp_path / "grey.png"
    zoo.save(path, zoo.picture(0)[..., 0])
    with pytest.raises(DataError, match=r"has 1 bands; the model uses bands \[2\]"), open_image(path, 1, Depth(), (2,)):
        pass


def test_evaluate_refuses_data_that_are_read_otherwise(tmp_path: Path) -> None:
    data = _data(tmp_path / "set", "percentile")
    predictor = _predictor(data)
    assert check_fit(predictor, data) == []
    other = replace(data, depth=Depth(4096.0, math.nan))
    assert (
        "scale: {max: 4096}, nodata: nan in its dataset.yaml, for the model scale: percentile"
        in (check_fit(predictor, other)[0])
    )


def test_models_that_are_read_differently_are_not_averaged(tmp_path: Path) -> None:
    bundle = _predictor(_data(tmp_path / "set", "float with NaN")).bundles[0]
    same = replace(bundle, depth=Depth("percentile", float("nan")))
    assert build_predictor([bundle, same]).depth.scale == "percentile"
    with pytest.raises(ModelError, match="depth"):
        build_predictor([bundle, replace(bundle, depth=Depth())])


def _card(**changes: Any) -> Card:
    values: dict[str, Any] = {
        "schema_version": 2,
        "weights_sha256": "0" * 64,
        "classes": ("a", "b"),
        "palette": ((0, 0, 0), (1, 1, 1)),
        "bands": 3,
        "mean": (1.0, 1.0, 1.0),
        "deviation": (1.0, 1.0, 1.0),
        "size": None,
        "model": {"name": "unet-tiny"},
    }
    return Card.model_validate({**values, **changes})


@pytest.mark.parametrize(
    ("keys", "depth", "bands"),
    [
        ({}, Depth(), None),
        ({"scale": "percentile", "nodata": "nan"}, Depth("percentile", math.nan), None),
        ({"scale": 4096.0, "nodata": -1.0, "chosen_bands": (3, 2, 1)}, Depth(4096.0, -1.0), (3, 2, 1)),
        ({"grey_as_rgb": True, "exif": "ignore"}, Depth(grey_as_rgb=True, exif="ignore"), None),
    ],
)
def test_a_bundle_carries_them_and_one_of_before_has_none(
    tmp_path: Path, keys: dict[str, Any], depth: Depth, bands: tuple[int, ...] | None
) -> None:
    card = _card(**keys)
    net = build_model(model_of(card, tmp_path), in_channels=3, classes=2)
    write_bundle(tmp_path, save(net.state_dict()), card)
    found = load_bundle(tmp_path)
    assert (repr(found.depth), found.chosen_bands) == (repr(depth), bands)
