"""Bundles: what is written is read; older schemas load; a hostile or truncated one is refused with a reason."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

from segdecay.errors import ModelError, RunError, SegdecayError
from segdecay.inference.bundle import Bundle, load_bundle, write_bundle
from segdecay.inference.card import SCHEMA, Card, CardScores, ClassScore, Search, TrainedOn, read_card
from segdecay.inference.model_card import model_card
from segdecay.models.unet import UNet


def _card(**changes: Any) -> Card:
    values: dict[str, Any] = {
        "schema_version": SCHEMA,
        "weights_sha256": "0" * 64,
        "classes": ("road", "car"),
        "palette": ((0, 0, 0), (255, 0, 0)),
        "bands": 3,
        "mean": (1.0, 2.0, 3.0),
        "deviation": (10.0, 20.0, 30.0),
        "size": None,
        "model": {"name": "unet-tiny", "width": 1, "depth": 1},
        "made_by": {"regularizer": "decoupled", "epochs": 3, "strength": {
            "axis": "total_decay", "value": 4.0, "lambda": 0.5, "timescale_epochs": 2.0, "total_decay": 4.0}},
    }  # fmt: skip
    return Card.model_validate(values | changes)


@pytest.fixture
def net() -> UNet:
    torch.manual_seed(0)
    return UNet(3, 2, width=1, depth=1).eval()


@pytest.fixture
def bundle(tmp_path: Path, net: UNet) -> Path:
    write_bundle(tmp_path / "model", save(net.state_dict()), _card())
    return tmp_path / "model"


def _edit(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    card = json.loads((folder / "model.json").read_text())
    change(card)
    (folder / "model.json").write_text(json.dumps(card))


def _put_weights(folder: Path, content: bytes) -> None:
    """Other weights with the hash that belongs to them, as somebody hostile would."""
    (folder / "model.safetensors").write_bytes(content)
    _edit(folder, lambda card: card.update(weights_sha256=hashlib.sha256(content).hexdigest()))


def test_what_is_written_predicts_as_the_model_did(bundle: Path, net: UNet) -> None:
    loaded = load_bundle(bundle)
    images = torch.randint(0, 256, (2, 3, 9, 13), dtype=torch.uint8)
    mean, deviation = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([10.0, 20.0, 30.0])
    with torch.no_grad():
        expected = net((images - mean.view(3, 1, 1)) / deviation.view(3, 1, 1))
    assert torch.allclose(loaded.logits(images), expected, atol=1e-6)


def test_a_newer_schema_asks_for_an_upgrade(bundle: Path) -> None:
    _edit(bundle, lambda card: card.update(schema_version=SCHEMA + 1))
    with pytest.raises(ModelError, match=r"written by a newer segdecay: schema 3, this one reads 2"):
        load_bundle(bundle)


HOSTILE: list[tuple[Callable[[dict[str, Any]], Any], str]] = [
    (lambda c: c.update(classes=["one"]), "classes"),
    (lambda c: c.update(classes=["a", "a"]), "class names must be distinct"),
    (lambda c: c.update(bands=10**9), "bands"),
    (lambda c: c.update(bands=4), "one number per band"),
    (lambda c: c.update(deviation=[1.0, 0.0, 1.0]), "deviation"),
    (lambda c: c.update(mean=[1.0, float("nan"), 1.0]), "mean"),
    (lambda c: c.update(palette=[[0, 0, 0], [256, 0, 0]]), "palette"),
    (lambda c: c.update(size=[10**6, 8]), "size"),
    (lambda c: c.update(schema_version=True), "schema_version"),
    (lambda c: c["model"].update(depth=10**6), "depth"),
    (lambda c: c["model"].update(code="import os"), "code"),
    (lambda c: c["model"].update(name="os:system"), "a bundle holds no code"),
    (lambda c: c["model"].update(name="smp:unet", encoder="tu-hf-hub:evil/model"), "not a plain name"),
    (lambda c: c["model"].update(name="smp:unet", encoder="tu-local-dir:/etc"), "not a plain name"),
    (lambda c: c["model"].update(name="smp:unet", encoder="../../resnet18"), "not a plain name"),
    (lambda c: c["model"].update(width=512, depth=7), "does not fit the model"),
    (lambda c: c.pop("weights_sha256"), "weights_sha256"),
    (lambda c: c.update(weights_sha256="../../etc/passwd"), "weights_sha256"),
]


@pytest.mark.parametrize(("change", "said"), HOSTILE)
def test_a_hostile_card_is_refused_with_a_reason(bundle: Path, change: Callable[[Any], Any], said: str) -> None:
    _edit(bundle, change)
    with pytest.raises(ModelError, match=said):
        load_bundle(bundle)


def test_all_faults_of_a_card_are_told_at_once(bundle: Path) -> None:
    _edit(bundle, lambda c: c.update(bands=0, classes=["a"], size=[1, 1]))
    with pytest.raises(ModelError) as caught:
        load_bundle(bundle)
    assert all(word in str(caught.value) for word in ("bands", "classes", "size"))


def test_a_model_larger_than_its_weights_takes_no_memory(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _edit(bundle, lambda c: c["model"].update(width=512, depth=7))  # 25 billion parameters
    built: list[str] = []
    real = UNet.__init__

    def noted(self: UNet, *args: Any, **options: Any) -> None:
        real(self, *args, **options)
        built.append(next(self.parameters()).device.type)

    monkeypatch.setattr(UNet, "__init__", noted)
    with pytest.raises(ModelError, match="does not fit"):
        load_bundle(bundle)
    assert built == ["meta"]


def _tensors(net: UNet) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in net.state_dict().items()}


def test_weights_of_other_names_shapes_types_or_values_are_refused(bundle: Path, net: UNet) -> None:
    name = next(iter(net.state_dict()))
    changes: list[tuple[Callable[[dict[str, torch.Tensor]], Any], str]] = [
        (lambda t: t.pop(name), f"{name} is missing"),
        (lambda t: t.update(extra=torch.zeros(1)), "extra is not a tensor of the model"),
        (lambda t: t.update({name: t[name][..., :1].contiguous()}), f"{name} is float32"),
        (lambda t: t.update({name: t[name].half()}), f"{name} is float16"),
        (lambda t: t.update({name: torch.full_like(t[name], torch.nan)}), "not finite"),
    ]
    for change, said in changes:
        tensors = _tensors(net)
        change(tensors)
        _put_weights(bundle, save(tensors))
        with pytest.raises(ModelError, match=said):
            load_bundle(bundle)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80\x04cos\nsystem\n",
        struct.pack("<Q", 2**62) + b"{}",
        struct.pack("<Q", 10**7) + b"{" * 100,
        struct.pack("<Q", 8) + b"notjson!",
    ],
)
def test_a_file_that_is_no_safetensors_is_refused(bundle: Path, content: bytes) -> None:
    _put_weights(bundle, content)
    with pytest.raises(ModelError, match=r"model\.safetensors is damaged"):
        load_bundle(bundle)


def test_a_header_that_points_outside_its_file_is_refused(bundle: Path) -> None:
    header = json.dumps({"x": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}).encode()
    _put_weights(bundle, struct.pack("<Q", len(header)) + header)
    with pytest.raises(ModelError, match=r"model\.safetensors is damaged"):
        load_bundle(bundle)


@pytest.mark.parametrize("part", ["model.json", "model.safetensors"])
def test_links_and_pipes_are_not_followed(bundle: Path, tmp_path: Path, part: str) -> None:
    shutil.move(bundle / part, tmp_path / part)
    (bundle / part).symlink_to(tmp_path / part)
    with pytest.raises(ModelError, match="is a link"):
        load_bundle(bundle)
    (bundle / part).unlink()
    os.mkfifo(bundle / part)
    with pytest.raises(SegdecayError, match=r"not a plain file|does not exist"):
        load_bundle(bundle)


def test_a_deeply_nested_card_is_refused(bundle: Path) -> None:
    (bundle / "model.json").write_text('{"schema_version": 2, "made_by": ' + "[" * 100_000 + "]" * 100_000 + "}")
    with pytest.raises(ModelError, match="damaged"):
        load_bundle(bundle)


def test_a_huge_card_is_refused_unread(bundle: Path) -> None:
    with (bundle / "model.json").open("ab") as file:
        file.truncate(5 << 20)
    with pytest.raises(ModelError, match="at most 4,194,304 are read"):
        load_bundle(bundle)


JUNK: list[Any] = [
    None,
    True,
    -1,
    0,
    2**63,
    10**30,
    1e308,
    "",
    "x" * 300,
    [],
    {},
    [[]],
    {"a": 1},
    "../../etc",
    [0] * 300,
]


def _mutated_json(card: dict[str, Any], draw: random.Random) -> dict[str, Any]:
    place: Any = card
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = draw.choice(keys)
        if isinstance(place[key], (dict, list)) and place[key] and draw.random() < 0.6:
            place = place[key]
            continue
        if draw.random() < 0.25:
            place.pop(key)
        else:
            place[key] = draw.choice(JUNK)
        return card


def _mutated_bytes(content: bytes, draw: random.Random) -> bytes:
    data = bytearray(content)
    kind = draw.randrange(4)
    if kind == 0:
        return bytes(data[: draw.randrange(len(data))])
    for _ in range(draw.choice([1, 1, 8, 64])):
        at = draw.randrange(min(len(data), 600 if kind == 1 else len(data)))  # headers are worth more
        data[at] = draw.randrange(256) if kind < 3 else data[at] ^ (1 << draw.randrange(8))
    return bytes(data)


def test_a_thousand_mutated_bundles_are_refused_or_load(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pristine = {name: (bundle / name).read_bytes() for name in ("model.json", "model.safetensors")}
    opened: set[str] = set()
    real = os.open

    def noted(path: Any, *args: Any, **options: Any) -> int:
        opened.add(str(path))
        return real(path, *args, **options)

    monkeypatch.setattr(os, "open", noted)
    outcomes = {"loaded": 0, "refused": 0}
    for seed in range(1000):
        draw = random.Random(seed)
        for name, content in pristine.items():
            (bundle / name).write_bytes(content)
        if seed % 3 == 0:
            (bundle / "model.json").write_text(json.dumps(_mutated_json(json.loads(pristine["model.json"]), draw)))
        elif seed % 3 == 1:
            (bundle / "model.json").write_bytes(_mutated_bytes(pristine["model.json"], draw))
        else:
            _put_weights(bundle, _mutated_bytes(pristine["model.safetensors"], draw))
        try:
            loaded = load_bundle(bundle)
        except (ModelError, RunError):
            outcomes["refused"] += 1
            continue
        assert isinstance(loaded, Bundle)
        assert loaded.logits(torch.zeros(1, loaded.bands, 8, 8)).shape == (1, len(loaded.classes), 8, 8)
        outcomes["loaded"] += 1
    assert min(outcomes.values()) > 50, outcomes
    assert all(Path(path).parent == bundle for path in opened), opened


def test_a_run_without_a_model_says_how_far_it_is(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / "trials" / "total_decay=1" / f"{number}-0").mkdir(parents=True)
        (tmp_path / "trials" / "total_decay=1" / f"{number}-0" / "trial.json").write_text("{}")
    (tmp_path / "run.yaml").write_text("command: tune")
    with pytest.raises(RunError, match="Run the same command again to resume it"):
        load_bundle(tmp_path)
    (tmp_path / "environment.json").write_text(json.dumps({"trials": 14, "command": "segdecay tune photos"}))
    with pytest.raises(RunError, match=r"3 of at most 14 trials done.* run: segdecay tune photos"):
        load_bundle(tmp_path)


def test_the_model_card_says_data_scores_and_limits(tmp_path: Path, net: UNet) -> None:
    card = _card(
        trained_on=TrainedOn(name="streets", fingerprint="f" * 64, images=80, parts={"train": 80, "test": 20}),
        search=Search(kind="chosen", sentence="D = 4 beats none.", criterion="miou", confidence=0.95,
                      selection=CardScores(mean=0.7),
                      honest=CardScores(mean=0.69, interval=(0.6, 0.75), method="bbc-cv")),
        scores=(ClassScore(name="road", pixels=90_000, images=80, folds=0.9, interval=(0.88, 0.92), scored=0.91),
                ClassScore(name="car", pixels=500, images=4, folds=0.4, interval=(0.1, 0.6), scored=None)),
        scored_on="test",
        miou=0.91,
    )  # fmt: skip
    write_bundle(tmp_path / "model", save(net.state_dict()), card)
    said = (tmp_path / "model" / "README.md").read_text()
    assert said == model_card(read_card(tmp_path / "model" / "model.json"))
    for text in ("streets: 80 images", "D = 4 beats none.", "0.690 (0.600 to 0.750) (bbc-cv)", "λ = 0.5",
                 "| road | 0.900 (0.880 to 0.920) | 0.910 | 90,000 | 80 |",
                 "| car | 0.400 (0.100 to 0.600) | n/a | 500 | 4 |", "Few training examples of: car.",
                 "IoU below .5: car.", "mIoU on test, scored once: 0.910"):  # fmt: skip
        assert text in said, text


def test_weights_that_nobody_scored_are_said_to_be_so() -> None:
    said = model_card(_card())
    assert "not scored on images outside their training" in said
    assert "was given, not searched" in said
