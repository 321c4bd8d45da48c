"""The precision of a training on the device that it runs on."""

from __future__ import annotations

import os
import warnings

import torch

from segdecay.config.schema import RunConfig
from segdecay.errors import ConfigError

WORKSPACE = ":4096:8"  # of cuBLAS, which repeats its results only with a fixed one


def kind_of(device: str) -> str:
    """The kind of a device: cpu, cuda or mps."""
    return device.partition(":")[0]


def has_bf16(device: str) -> bool:
    """Whether a GPU multiplies bfloat16 in hardware, which begins with the generation that has TF32."""
    with torch.cuda.device(device):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))


def with_precision(config: RunConfig, device: str) -> RunConfig:
    """The configuration with the precision that its trainings get on this device; it is a part of what a run is.

    "auto" becomes bf16-mixed on a GPU that has it, else 32-true.

    Raises:
        ConfigError: the device has no such precision.
    """
    asked, kind = config.training.precision, kind_of(device)
    newer = kind == "cuda" and has_bf16(device)
    if asked == "auto":
        taken = "bf16-mixed" if newer else "32-true"
        return config.model_copy(update={"training": config.training.model_copy(update={"precision": taken})})
    allowed = {
        "cpu": ("32-true", "bf16-mixed"),
        "mps": ("32-true",),
        "cuda": ("32-true", "16-mixed", *(("tf32", "bf16-mixed") if newer else ())),
    }[kind]
    if asked not in allowed:
        why = " (this GPU is older than the first with bfloat16 and TF32, NVIDIA's Ampere)" if kind == "cuda" else ""
        raise ConfigError(
            f"training.precision={asked} cannot be used on {device}{why}. Allowed there: auto, {', '.join(allowed)}."
        )
    return config


def prepare_torch(config: RunConfig, device: str) -> None:
    """One thread on a CPU, whatever the number of workers; TF32 and deterministic kernels as configured."""
    training, kind = config.training, kind_of(device)
    if kind == "cpu":
        torch.set_num_threads(1)
    wanted = training.deterministic
    torch.use_deterministic_algorithms(wanted is not False, warn_only=wanted == "auto")
    if kind != "cuda":
        return
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = training.precision != "32-true"
    torch.backends.cudnn.benchmark = wanted is False
    if wanted is not False:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", WORKSPACE)
        # the preflight has named these layers once
        warnings.filterwarnings("ignore", message=".*does not have a deterministic implementation.*")
