"""The outcome of an attempt at a trial, as plain values that can be sent between processes."""

from __future__ import annotations

import errno
import sys
import traceback
from dataclasses import dataclass

from segdecay.errors import DiskFullError, SegdecayError, describe_os_error
from segdecay.training.setup import TrialTask

# Messages of RuntimeErrors of torch on a CPU, and of CUDA and its libraries, about a lack of memory.
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
    """The outcome of an attempt at a trial.

    "finished"; "failed" (it would fail again); "memory" (too little); "full" (the disk, at `path`); "interrupted"
    (asked to stop, with a checkpoint). Set by the executor, not the worker: "killed" (its process was ended from
    outside), "hung" (silent for too long), "lost" (its machine is gone).
    """

    kind: str
    reason: str = ""
    path: str = ""


def outcome_of(error: Exception, task: TrialTask) -> Outcome:
    """The outcome of an exception: errors of segdecay with their message, file errors with their path."""
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
    """Whether an error is a lack of memory: of Python, the system, or torch on a CPU or a GPU.

    >>> is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."))
    True
    >>> is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    False
    """
    import torch

    if error.__cause__ is not None and is_out_of_memory(error.__cause__):
        return True  # errors of segdecay about a model are raised from torch's
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and any(words in str(error) for words in NO_MEMORY)


def what_to_lower(task: TrialTask, workers: int) -> str:
    """The present values of the options that memory depends on, and how to lower them."""
    training, data, augment = task.config.training, task.config.data, task.config.augment
    size = "as the images are" if data.size is None else f"{data.size[0]}x{data.size[1]}"
    crop = getattr(augment, "crop", None)
    ways = [f"training.batch_size (now {training.batch_size}; training.accumulate keeps the step as it is)"]
    ways += [f"augment.crop (now {crop})"] if crop is not None else []
    ways += [f"--size (now {size})"]
    ways += [f"--workers (now {workers})"] if workers > 1 else []
    return f"lower {', '.join(ways[:-1])} or {ways[-1]}"
