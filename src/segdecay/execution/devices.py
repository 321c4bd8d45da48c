"""The devices of trials, and the default number of workers."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from segdecay.errors import ConfigError, SegdecayError

if TYPE_CHECKING:
    from segdecay.training.distributed import Spread


def find_devices(wanted: str) -> list[str]:
    """The devices that trials may use; for "auto" every CUDA GPU if there is one, else the CPU; "mps" on request.

    Raises:
        SegdecayError: the device does not exist.
    """
    import torch

    found = torch.cuda.device_count() if wanted != "cpu" else 0
    if wanted == "cpu" or (wanted == "auto" and not found):
        return ["cpu"]
    every = [f"cuda:{index}" for index in range(found)]
    has_mps = torch.backends.mps.is_available()
    if wanted == "mps" and has_mps:
        return ["mps"]
    if wanted in ("auto", "cuda") and every:
        return every
    if wanted in every:
        return [wanted]
    there = ["cpu", *every, *(["mps"] if has_mps else [])]
    raise SegdecayError(f"--device {wanted}: not found. Found: {', '.join(there)}. Use auto or one of these.")


def spread_over(devices: Sequence[str], count: int) -> Spread | None:
    """The devices of one training that uses `count` of them; None for one device.

    >>> spread_over(["cuda:0", "cuda:1", "cuda:2"], 2)
    Spread(devices=('cuda:0', 'cuda:1'), has_idle=False)

    Raises:
        ConfigError: fewer than one, or more than there are GPUs. On a CPU every device is a single-threaded process.
    """
    from segdecay.training.distributed import Spread

    if count < 1:
        raise ConfigError(f"--devices takes 1 or more; saw {count}.")
    if count == 1:
        return None
    if devices[0] == "cpu":
        return Spread(("cpu",) * count)
    if count > len(devices):
        raise ConfigError(
            f"--devices {count}: only {len(devices)} are available ({', '.join(devices)}). Use at most {len(devices)}, "
            "or leave out --device to use every GPU."
        )
    return Spread(tuple(devices[:count]))


def usable_cores() -> int:
    """The cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return max(1, len(affinity(0)) if affinity else os.cpu_count() or 1)


def default_workers(devices: Sequence[str]) -> int:
    """One worker per GPU; on a CPU one worker per core."""
    return usable_cores() if devices[0] == "cpu" else len(devices)
