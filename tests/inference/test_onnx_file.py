"""`segdecay export`: the file computes what the model does, at any size, in onnxruntime alone; else there is none."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from commands import Command
from small_search import SmallSearch
from torch import Tensor, nn

import segdecay
from segdecay.config.schema import ModelConfig
from segdecay.errors import ConfigError, MissingPartError, ModelError
from segdecay.inference import onnx_file
from segdecay.inference.bundle import Bundle
from segdecay.models.zoo import build_model

CLASSES = ("ground", "bright", "dark")


def run_file(path: Path, images: Any) -> Any:
    """The file in onnxruntime."""
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"image": images})[0]


def metadata(path: Path) -> dict[str, Any]:
    return {one.key: json.loads(one.value) for one in onnx.load(path).metadata_props}


def test_labels_are_those_of_predict_at_any_size_and_batch(
    small_search: SmallSearch, tmp_path: Path, segdecay_command: Command
) -> None:
    path = tmp_path / "sub" / "shapes.onnx"
    said = segdecay_command("export", small_search.run, "--normalise", "--argmax", "--out", path)
    assert said.out.count("labels agree on 100.00%") == 3
    assert f"wrote {path}" in said.out
    model = segdecay.load(small_search.run, device="cpu")
    random = np.random.default_rng(0)
    for height, width in ((16, 16), (33, 70), (128, 65)):
        pixels = random.integers(0, 256, (2, height, width, 3), dtype=np.uint8)
        found = run_file(path, pixels.transpose(0, 3, 1, 2).astype(np.float32))
        assert found.shape == (2, height, width)
        assert found.dtype == np.uint8
        agreement = np.mean([(found[row] == model.predict(pixels[row])).mean() for row in range(2)])
        assert agreement > 0.999


@pytest.fixture(name="segdecay_command")
def _command(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue("segdecay")


def test_logits_and_what_a_caller_needs_are_in_the_file(small_search: SmallSearch, tmp_path: Path) -> None:
    found = segdecay.export(small_search.run, out=tmp_path / "a.onnx", opset=13)
    held = metadata(found.path)
    assert (tuple(held["classes"]), held["opset"], held["normalised_inside"]) == (CLASSES, 13, False)
    card = json.loads((small_search.run / "model" / "model.json").read_text(encoding="utf-8"))
    assert held["mean"] == card["mean"]
    assert held["card"]["weights_sha256"] == card["weights_sha256"]
    assert onnx.load(found.path).opset_import[0].version == 13
    pixels = np.random.default_rng(1).integers(0, 256, (21, 34, 3), dtype=np.uint8)
    normal = (pixels.astype(np.float32) - np.float32(held["mean"])) / np.float32(held["deviation"])
    logits = run_file(found.path, normal.transpose(2, 0, 1)[None])
    shares = np.exp(logits[0]) / np.exp(logits[0]).sum(axis=0)
    model = segdecay.load(small_search.run, device="cpu")
    np.testing.assert_allclose(shares, model.probabilities(pixels), atol=1e-4)
    assert [(one.height, one.width) for one in found.checks] == [(64, 64), (96, 160), (77, 53)]
    assert all(one.largest_difference is not None and one.largest_difference < 1e-4 for one in found.checks)
    assert json.loads(json.dumps(found.to_dict()))["path"] == str(found.path)


class SizeBound(nn.Module):
    """Pools to a part of its input's size, which a trace keeps as a constant."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, 2, 1)

    def forward(self, images: Tensor) -> Tensor:
        strip = images[..., : int(images.shape[-2]) // 2, :].mean(dim=(-2, -1), keepdim=True)
        logits: Tensor = self.head(images + float(images.shape[-2]) * strip)
        return logits


def bundle_of(model: nn.Module, task: Any = "segmentation") -> Bundle:
    return Bundle(
        model.eval(), ("a", "b"), ((0, 0, 0), (255, 255, 255)), 3, (100.0, 90.0, 80.0), (40.0, 50.0, 60.0), None, {},
        task=task,
    )  # fmt: skip


def test_a_mismatch_leaves_no_file_and_ends_with_1(
    small_search: SmallSearch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, segdecay_command: Command
) -> None:
    bundle = bundle_of(SizeBound())
    monkeypatch.setattr(onnx_file, "load_bundle", lambda *_, **__: bundle)
    path = tmp_path / "bound.onnx"
    said = segdecay_command("export", small_search.run, "--out", path, code=1)
    assert f"does not compute what the model does, so {path} was not written" in said.err
    assert "96 x 160 pixels: logits differ by up to" in said.err
    assert "64 x 64" not in said.err  # the traced size is right
    assert list(tmp_path.iterdir()) == []


class Untraceable(nn.Module):
    """Returns a type that no file can hold."""

    def forward(self, images: Tensor) -> Any:
        return torch.fft.fft2(images).abs().to_sparse()


def test_a_model_that_cannot_be_exported_is_told(tmp_path: Path, small_search: SmallSearch) -> None:
    with pytest.raises(ModelError, match="The model cannot be exported to ONNX"):
        onnx_file.onnx_bytes(bundle_of(Untraceable()), normalise=False, argmax=False, opset=17)
    with pytest.raises(ConfigError, match=r"(?s)Unknown format 'tflite'.*--opset takes 13 to 20; saw 9.*saw m\.pt"):
        segdecay.export(small_search.run, to="tflite", opset=9, out="m.pt")
    assert list(tmp_path.iterdir()) == []


class Labels(nn.Module):
    """Two logits an image."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.stack([images.mean(dim=(1, 2, 3)), images[:, 0].mean(dim=(1, 2))], dim=1)


def test_a_model_that_labels_whole_images(tmp_path: Path) -> None:
    bundle = bundle_of(Labels(), task="classification")
    for argmax, shape in ((False, (1, 2)), (True, (1,))):
        content = onnx_file.onnx_bytes(bundle, normalise=True, argmax=argmax, opset=17)
        found = onnx_file.check_size(content, bundle, (20, 30), normalise=True, argmax=argmax)
        assert found.is_equal
        (tmp_path / "labels.onnx").write_bytes(content)
        assert run_file(tmp_path / "labels.onnx", np.zeros((1, 3, 20, 30), np.float32)).shape == shape


def test_an_architecture_of_smp_is_equal_where_it_must_be_padded() -> None:
    torch.manual_seed(0)
    net = build_model(ModelConfig(name="smp:Linknet", encoder="resnet18"), in_channels=3, classes=2)
    bundle = bundle_of(net)
    content = onnx_file.onnx_bytes(bundle, normalise=True, argmax=False, opset=17)
    assert onnx_file.check_size(content, bundle, (45, 33), normalise=True, argmax=False).is_equal


@pytest.mark.parametrize("missing", ["onnx", "onnxruntime"])
def test_without_its_packages_the_extra_is_named(
    missing: str, small_search: SmallSearch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.import_module

    def refuse(name: str, package: str | None = None) -> Any:
        if name == missing:
            raise ImportError(f"no {missing}")
        return real(name, package)

    monkeypatch.setattr(importlib, "import_module", refuse)
    with pytest.raises(MissingPartError, match=rf"{missing} is not installed.*segdecay\[onnx\]"):
        segdecay.export(small_search.run, out=tmp_path / "a.onnx")
    assert list(tmp_path.iterdir()) == []


def test_the_example_of_the_docs_runs(
    small_search: SmallSearch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from paths import ROOT

    said = (ROOT / "docs" / "prediction.md").read_text(encoding="utf-8")
    code = said.split("```python\nimport json\n\nimport numpy", 1)[1].split("```", 1)[0]
    segdecay.export(small_search.run, out=tmp_path / "model.onnx", normalise=True, argmax=True)
    image = min((small_search.data / "images" / "test").iterdir())
    (tmp_path / "photo.png").write_bytes(image.read_bytes())
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec("import json\n\nimport numpy" + code, names)  # noqa: S102  # our own page
    np.testing.assert_array_equal(names["labels"], segdecay.load(small_search.run, device="cpu").predict(image))
    assert names["classes"] == list(CLASSES)
