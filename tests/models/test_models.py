"""Models by name: shapes, sizes, weights from files, and every error."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from segdecay.config.schema import ModelConfig
from segdecay.errors import ModelError
from segdecay.models.unet import UNet
from segdecay.models.weights import load_weights
from segdecay.models.zoo import build_model, input_stride, logits_of


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 3))
@settings(max_examples=25, deadline=None)
def test_unet_takes_any_size_and_returns_it(height: int, width: int, depth: int) -> None:
    net = UNet(2, 3, width=2, depth=depth).eval()
    assert net(torch.zeros(1, 2, height, width)).shape == (1, 3, height, width)


def test_padding_does_not_reach_a_size_that_fits() -> None:
    net = UNet(1, 2, width=2, depth=2).eval()
    image = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(net(image), net(image.clone()))
    assert not torch.equal(net(image)[..., :7, :7], net(image[..., :7, :7]))


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_norm_and_dropout_are_those_asked_for(norm: str) -> None:
    net = UNet(3, 2, width=8, depth=2, norm=norm, dropout=0.3)
    kinds = {type(module).__name__ for module in net.modules()}
    assert ("GroupNorm" in kinds) == (norm == "group")
    assert ("BatchNorm2d" in kinds) == (norm == "batch")
    assert "Dropout2d" in kinds


@pytest.mark.parametrize(
    ("depth", "places"), [(3, ["encoder.2.6", "encoder.3.6"]), (1, ["encoder.0.6", "encoder.1.6"])]
)
def test_dropout_stands_at_the_end_of_the_contracting_path_only(depth: int, places: list[str]) -> None:
    net = UNet(3, 2, width=4, depth=depth, dropout=0.3)
    assert [name for name, module in net.named_modules() if type(module).__name__ == "Dropout2d"] == places


def test_group_norm_scores_do_not_depend_on_the_rest_of_the_batch() -> None:
    net = UNet(1, 2, width=8, depth=1, norm="group").train()
    images = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(net(images)[:1], net(images[:1]), atol=1e-5)


def test_presets_differ_in_width_and_depth() -> None:
    tiny, small = (
        build_model(ModelConfig(name=name), in_channels=3, classes=4) for name in ("unet-tiny", "unet-small")
    )
    count = [sum(p.numel() for p in net.parameters()) for net in (tiny, small)]
    assert count[1] > 5 * count[0]


@pytest.mark.parametrize("architecture", ["Unet", "fpn", "DeepLabV3Plus"])
def test_smp_architectures_take_any_size(architecture: str) -> None:
    config = ModelConfig(name=f"smp:{architecture}", encoder="resnet18")
    net = build_model(config, in_channels=4, classes=3).eval()
    with torch.inference_mode():
        assert logits_of(net, torch.zeros(1, 4, 37, 50)).shape == (1, 3, 37, 50)


def test_timm_encoders_come_by_name() -> None:
    config = ModelConfig(name="smp:unet", encoder="tu-mobilenetv3_small_050")
    net = build_model(config, in_channels=3, classes=2).eval()
    with torch.inference_mode():
        assert logits_of(net, torch.zeros(1, 3, 32, 32)).shape == (1, 2, 32, 32)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("unet-tny", "Did you mean 'unet-tiny'"),
        ("smp:unnet", "Did you mean 'unet'"),
        ("nothing.here:build", "cannot be imported"),
        ("math:sine", "Did you mean 'sin'"),
        ("math:sin", "called as build"),
    ],
)
def test_models_that_cannot_be_built_are_explained(name: str, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        build_model(ModelConfig(name=name), in_channels=3, classes=2)


def test_an_unknown_encoder_is_named() -> None:
    with pytest.raises(ModelError, match="resnet1818"):
        build_model(ModelConfig(name="smp:unet", encoder="resnet1818"), in_channels=3, classes=2)


OWN = """
import torch
def build(in_channels, classes):
    net = torch.nn.Conv2d(in_channels, classes, 3, padding=1)
    net.input_stride = 4
    return net
def text(in_channels, classes):
    return "no model"
"""


def test_own_models_are_called_with_bands_and_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mynet_of_a_test.py").write_text(OWN, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    net = build_model(ModelConfig(name="mynet_of_a_test:build"), in_channels=2, classes=5)
    assert input_stride(net) == 4
    assert logits_of(net, torch.zeros(1, 2, 6, 7)).shape == (1, 5, 6, 7)
    with pytest.raises(ModelError, match="returned a str"):
        build_model(ModelConfig(name="mynet_of_a_test:text"), in_channels=2, classes=5)


def _unet(classes: int = 3) -> UNet:
    return UNet(3, classes, width=4, depth=2)


def test_weights_come_from_safetensors_and_from_pth(tmp_path: Path) -> None:
    state = _unet().state_dict()
    save_file(state, tmp_path / "w.safetensors")
    torch.save({"state_dict": {f"module.{name}": value for name, value in state.items()}}, tmp_path / "w.pth")
    for name in ("w.safetensors", "w.pth"):
        net = _unet()
        assert load_weights(net, tmp_path / name) == ()
        assert all(torch.equal(net.state_dict()[key], state[key]) for key in state)


def test_a_head_for_other_classes_keeps_its_fresh_values(tmp_path: Path) -> None:
    save_file(_unet(3).state_dict(), tmp_path / "w.safetensors")
    net = _unet(7)
    assert set(load_weights(net, tmp_path / "w.safetensors")) == {"head.weight", "head.bias"}


def test_weights_of_the_encoder_alone_fit(tmp_path: Path) -> None:
    donor = _unet()
    encoder = {n.removeprefix("encoder."): v for n, v in donor.state_dict().items() if n.startswith("encoder.")}
    save_file(encoder, tmp_path / "w.safetensors")
    net = _unet()
    fresh = load_weights(net, tmp_path / "w.safetensors")
    assert all(not name.startswith("encoder.") for name in fresh)
    assert torch.equal(net.state_dict()["encoder.0.0.weight"], donor.state_dict()["encoder.0.0.weight"])


def test_foreign_weights_show_both_lists_differences(tmp_path: Path) -> None:
    save_file({"stem.weight": torch.zeros(2)}, tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match=r"0 of \d+ tensors match.*Only in the model: encoder.*only in the file.*stem"):
        load_weights(_unet(), tmp_path / "w.safetensors")


class _Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("evil-was-here"),))  # type: ignore[return-value]


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w.pth").write_bytes(pickle.dumps({"w": _Evil()}))
    torch.save({"w": _Evil()}, tmp_path / "v.pth")
    for name, why in (("w.pth", "is damaged or not a file of weights"), ("v.pth", r"Python objects \(getattr\)")):
        with pytest.raises(ModelError, match=f"{name} .*{why}.*torch.save\\(model.state_dict") as told:
            load_weights(_unet(), tmp_path / name)
        assert "weights_only" not in str(told.value)  # torch's own advice: to run the file's code all the same
    assert not (tmp_path / "evil-was-here").exists()


@pytest.mark.parametrize("content", [b"", b"\x00" * 100])
def test_damaged_weights_are_named(tmp_path: Path, content: bytes) -> None:
    for name in ("w.safetensors", "w.pth"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ModelError, match=f"{name} (cannot be read|is empty)"):
            load_weights(_unet(), tmp_path / name)
    with pytest.raises(ModelError, match="does not exist"):
        load_weights(_unet(), tmp_path / "none.pth")
