"""How an attempt at a trial ended, as plain values that can be sent between processes."""

from __future__ import annotations

import errno
import sys
import traceback
from dataclasses import dataclass

from segdecay.errors import DiskFullError, SegdecayError, describe_os_error
from segdecay.training.setup import TrialTask

# How torch says on a CPU, and CUDA and its libraries on a GPU, that there was no memory: as RuntimeError.
NO_MEMORY = (
    "can't allocate memory",
    "not enough memory",
    "std::bad_alloc",
    "out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)


@dataclass(frozen=True)
class Outcome:
    """How an attempt at a trial ended.

    "finished"; "failed" (it would fail again); "memory" (there was too little); "full" (the disk, at `path`);
    "interrupted" (asked to stop, its state is kept). Said by the executor, not the worker: "killed" (its process
    ended from outside), "hung" (no sign of life), "lost" (its machine went).
    """

    kind: str
    reason: str = ""
    path: str = ""


def outcome_of(error: Exception, task: TrialTask) -> Outcome:
    """What an exception from a trial means: our own errors say it themselves, files with their path, the rest as is."""
    if DiskFullError.is_told_by(error):
        path = getattr(error, "filename", None) or getattr(error, "path", task.folder)
        return Outcome("full", str(error), str(path))
    if is_out_of_memory(error):
        first = error.__cause__ or error
        return Outcome("memory", str(first).splitlines()[0] if str(first) else type(first).__name__)
    if isinstance(error, SegdecayError):
        return Outcome("failed", str(error))
    if isinstance(error, OSError):
        return Outcome("failed", f"a file could not be read or written ({describe_os_error(error)})")
    traceback.print_exception(error, file=sys.stderr)
    return Outcome("failed", f"{type(error).__name__}: {error}")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory was too little: Python's, the system's, torch's on a CPU or a GPU.

    >>> is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."))
    True
    >>> is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    False
    """
    import torch

    if error.__cause__ is not None and is_out_of_memory(error.__cause__):
        return True  # our own errors about a model are raised from what torch said
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and any(words in str(error) for words in NO_MEMORY)


def what_to_lower(task: TrialTask, workers: int) -> str:
    """The values that memory depends on as they are now, and how to lower each."""
    training, data, augment = task.config.training, task.config.data, task.config.augment
    size = "as the images are" if data.size is None else f"{data.size[0]}x{data.size[1]}"
    crop = getattr(augment, "crop", None)
    ways = [f"training.batch_size (now {training.batch_size}; training.accumulate keeps the step as it is)"]
    ways += [f"augment.crop (now {crop})"] if crop is not None else []
    ways += [f"--size (now {size})"]
    ways += [f"--workers (now {workers})"] if workers > 1 else []
    return f"lower {', '.join(ways[:-1])} or {ways[-1]}"
