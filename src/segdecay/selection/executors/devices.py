"""Which devices cells may use, and how many cells at a time."""

from __future__ import annotations

import os
from collections.abc import Sequence

from segdecay.errors import SegdecayError


def find_devices(wanted: str) -> list[str]:
    """The devices cells may use: every GPU for "auto" where there is one, else the CPU.

    Raises:
        SegdecayError: a device that is not there.
    """
    import torch

    found = torch.cuda.device_count() if wanted != "cpu" else 0
    if wanted == "cpu" or (wanted == "auto" and not found):
        return ["cpu"]
    every = [f"cuda:{index}" for index in range(found)]
    if wanted in ("auto", "cuda") and every:
        return every
    if wanted in every:
        return [wanted]
    raise SegdecayError(f"--device {wanted}: not there. Found: {', '.join(['cpu', *every])}. Use auto or one of these.")


def default_workers(devices: Sequence[str]) -> int:
    """One worker a GPU; on a CPU one worker a core."""
    if devices[0] != "cpu":
        return len(devices)
    affinity = getattr(os, "sched_getaffinity", None)
    return max(1, len(affinity(0)) if affinity else os.cpu_count() or 1)
