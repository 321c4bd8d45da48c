"""Settings by device: precision, deterministic kernels, scaled losses; without a GPU, whose answers are replaced."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.precision.amp import MixedPrecision
from shapes import same_weights, small_config, small_task, stopped_and_resumed
from torch import nn

from segdecay.config.schema import RunConfig, parse_config
from segdecay.errors import ConfigError
from segdecay.execution.devices import find_devices
from segdecay.execution.options import Execution, build_executor
from segdecay.models.zoo import build_model
from segdecay.training import determinism, precision, preflight, setup
from segdecay.training.determinism import WITHOUT, layers_without
from segdecay.training.loop import run_trial
from segdecay.training.precision import prepare_torch, with_precision
from segdecay.training.setup import TrialTask


def _config(**training: Any) -> RunConfig:
    return parse_config({"data": {"path": "photos"}, "training": training})


@pytest.fixture
def gpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "has_bf16", lambda _device: request.param)


NEW, OLD = True, False


@pytest.mark.parametrize(
    ("gpu", "device", "taken"),
    [(NEW, "cuda:0", "bf16-mixed"), (OLD, "cuda:1", "32-true"), (NEW, "cpu", "32-true"), (NEW, "mps", "32-true")],
    indirect=["gpu"],
)
@pytest.mark.usefixtures("gpu")
def test_auto_is_the_fastest_precision_that_the_device_has(device: str, taken: str) -> None:
    assert with_precision(_config(), device).training.precision == taken


@pytest.mark.parametrize(
    ("gpu", "device", "asked", "allowed"),
    [
        (OLD, "cuda:0", "bf16-mixed", "auto, 32-true, 16-mixed"),
        (OLD, "cuda:0", "tf32", "auto, 32-true, 16-mixed"),
        (NEW, "cpu", "tf32", "auto, 32-true, bf16-mixed"),
        (NEW, "cpu", "16-mixed", "auto, 32-true, bf16-mixed"),
        (NEW, "mps", "bf16-mixed", "auto, 32-true"),
    ],
    indirect=["gpu"],
)
@pytest.mark.usefixtures("gpu")
def test_a_precision_that_the_device_does_not_have_is_refused(device: str, asked: str, allowed: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"training.precision={asked} cannot be used on {device}")) as told:
        with_precision(_config(precision=asked), device)
    assert str(told.value).endswith(f"Allowed there: {allowed}.")


@pytest.mark.parametrize("gpu", [NEW], indirect=True)
@pytest.mark.usefixtures("gpu")
def test_what_was_asked_for_stays_where_the_device_has_it() -> None:
    config = _config(precision="tf32")
    assert with_precision(config, "cuda:0") is config


@pytest.fixture
def settings() -> Iterator[None]:
    cuda, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    kept = cuda.allow_tf32, cudnn.allow_tf32, cudnn.benchmark, torch.get_num_threads()
    modes = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    yield
    cuda.allow_tf32, cudnn.allow_tf32, cudnn.benchmark = kept[:3]
    torch.set_num_threads(kept[3])
    torch.use_deterministic_algorithms(modes[0], warn_only=modes[1])


@pytest.mark.parametrize(
    ("asked", "has_tf32"), [("32-true", False), ("tf32", True), ("bf16-mixed", True), ("16-mixed", True)]
)
@pytest.mark.usefixtures("settings")
def test_only_32_true_computes_without_tf32(asked: str, has_tf32: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    prepare_torch(_config(precision=asked), "cuda:0")
    assert torch.backends.cuda.matmul.allow_tf32 is has_tf32
    assert torch.backends.cudnn.allow_tf32 is has_tf32


@pytest.mark.parametrize(
    ("asked", "is_on", "only_warns"), [("auto", True, True), (True, True, False), (False, False, False)]
)
@pytest.mark.usefixtures("settings")
def test_deterministic_kernels_are_used_where_they_exist_or_nowhere(asked: Any, is_on: bool, only_warns: bool) -> None:
    prepare_torch(_config(deterministic=asked), "cpu")
    assert torch.are_deterministic_algorithms_enabled() is is_on
    assert torch.is_deterministic_algorithms_warn_only_enabled() is only_warns


def test_the_table_of_operations_is_the_list_of_torchs_documentation() -> None:
    text = str(torch.use_deterministic_algorithms.__doc__)
    part = text[text.index("nondeterministic operations will throw a") : text.index("In addition, several operations")]
    documented = {name.rsplit(".", 1)[-1] for name in re.findall(r"\* :(?:class|func):`([\w.]+)`", part)}
    documented.discard("MaxUnpool1d")  # by the operation of two dimensions
    documented |= {f"interpolate, {mode}" for mode in re.findall(r"- ``(\w+)``", part)}
    documented.discard("interpolate")
    assert {entry for entry, _ in WITHOUT.values()} == documented


class _Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 2, 3, padding=1, padding_mode="reflect")
        self.pool = nn.AdaptiveAvgPool2d(1)  # a mean, which repeats

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found = nn.functional.interpolate(self.stem(images), scale_factor=2, mode="bicubic")
        return torch.mul(found, self.pool(found))


def test_layers_are_found_by_what_they_call() -> None:
    found = [str(layer) for layer in layers_without(_Functional(), torch.zeros(2, 3, 8, 8))]
    assert found == ["stem (ReflectionPad2d)", "the model's own forward (interpolate, bicubic)"]


def test_the_built_in_network_has_no_such_layer() -> None:
    model = build_model(_config().model, in_channels=3, classes=4)
    assert layers_without(model, torch.zeros(2, 3, 32, 32)) == ()


def test_the_loss_has_no_such_operation_on_a_gpu() -> None:
    logits, target = torch.zeros(1, 3, 2, 2), torch.zeros(1, 2, 2, dtype=torch.int64)

    class Loss(nn.Module):
        def __init__(self, reduction: str) -> None:
            super().__init__()
            self.reduction = reduction

        def forward(self, values: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = nn.functional.cross_entropy(values, target, reduction=self.reduction)
            return found

    assert layers_without(Loss("none"), logits) == ()  # which CrossEntropy uses there
    assert [layer.operation for layer in layers_without(Loss("sum"), logits)] == ["NLLLoss"]


def _on_gpu(model: nn.Module) -> Any:
    return SimpleNamespace(fabric=SimpleNamespace(device=torch.device("cuda")), bare=model)


def test_deterministic_true_refuses_layers_and_auto_names_them_once(tmp_path: Path, shapes: Path) -> None:
    images, parts = torch.zeros(2, 3, 8, 8), _on_gpu(_Functional())
    strict, _ = small_task(tmp_path, small_config(shapes, training={"deterministic": True}))
    with pytest.raises(ConfigError, match=r"stem \(ReflectionPad2d\), the model's own forward") as told:
        preflight._varying_layers(strict, parts, images)
    assert "training.deterministic=auto" in str(told.value)
    auto, _ = small_task(tmp_path, small_config(shapes))
    found = preflight._varying_layers(auto, parts, images)
    assert len(found) == 2
    notes = preflight.start_notes(auto.config, replace(preflight.run_preflight(auto), varying=found))
    assert sum("may differ in the last digits" in note for note in notes) == 1
    off, _ = small_task(tmp_path, small_config(shapes, training={"deterministic": False}))
    assert preflight._varying_layers(off, parts, images) == ()


def test_the_flags_of_the_process_are_put_back() -> None:
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    determinism.layers_without(nn.Identity(), torch.zeros(1))
    assert before == (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )


@pytest.fixture
def scalers(monkeypatch: pytest.MonkeyPatch) -> list[torch.amp.GradScaler]:
    """Those of every Fabric that is built: on the CPU with the scaled loss of 16-mixed, as it has on a GPU."""
    built: list[torch.amp.GradScaler] = []

    def build(*_args: Any) -> Fabric:
        scaler = torch.amp.GradScaler("cpu", init_scale=4.0, growth_interval=2)
        built.append(scaler)
        return Fabric(accelerator="cpu", devices=1, plugins=[MixedPrecision("16-mixed", "cpu", scaler=scaler)])

    monkeypatch.setattr(setup, "build_fabric", build)
    return built


def _scaled_task(folder: Path, shapes: Path, **sections: Any) -> TrialTask:
    config = small_config(shapes, **sections)
    config = config.model_copy(update={"training": config.training.model_copy(update={"precision": "16-mixed"})})
    return small_task(folder, config)[0]


def test_a_scaled_loss_is_clipped_and_resumed_with_its_scale(
    tmp_path: Path, shapes: Path, scalers: list[torch.amp.GradScaler]
) -> None:
    whole = _scaled_task(tmp_path / "whole", shapes)
    assert run_trial(whole).status == "finished"
    assert same_weights(whole, stopped_and_resumed(whole, tmp_path / "broken", 4))
    assert scalers[0].state_dict() == scalers[-1].state_dict()
    assert scalers[0].get_scale() > 4


@pytest.mark.usefixtures("scalers")
def test_a_loss_that_overflows_names_its_step_and_the_scale(tmp_path: Path, shapes: Path) -> None:
    task = _scaled_task(tmp_path, shapes, optimizer={"name": "sgd", "lr": 1e9}, training={"clip_norm": None})
    record = run_trial(task)
    assert record.status == "diverged"
    pattern = r"the loss became (nan|inf) in epoch \d+, step \d+ \(16-mixed, loss scaled by [\d.]+; bf16-mixed and"
    assert re.match(pattern, str(record.reason))


def test_a_device_that_is_not_there_is_refused_with_those_that_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert find_devices("auto") == ["cuda:0", "cuda:1"]
    assert find_devices("cuda:1") == ["cuda:1"]
    assert find_devices("mps") == ["mps"]
    with pytest.raises(Exception, match=r"--device cuda:7: not found. Found: cpu, cuda:0, cuda:1, mps."):
        find_devices("cuda:7")


def test_several_trials_share_a_gpu() -> None:
    gpus = ["cuda:0", "cuda:1"]
    assert build_executor(Execution(trials_per_gpu=3), gpus).workers == 6
    assert build_executor(Execution(), gpus).workers == 2


@pytest.mark.parametrize(
    ("execution", "devices", "told"),
    [
        (Execution(trials_per_gpu=2), ["cpu"], "--trials-per-gpu 2 needs a GPU; found none. Use --workers."),
        (Execution(trials_per_gpu=2, workers=3), ["cuda:0"], "both say how many trials run at a time"),
        (Execution(trials_per_gpu=4, executor="ray"), ["cuda:0"], "use --gpus-per-trial 0.25"),
        (Execution(trials_per_gpu=0), ["cuda:0"], "--trials-per-gpu takes 1 or more; saw 0."),
    ],
)
def test_trials_per_gpu_that_cannot_be_is_refused(execution: Execution, devices: list[str], told: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(told)):
        build_executor(execution, devices)
