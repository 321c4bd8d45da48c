"""Train segmentation networks with weight decay under control; `import segdecay` imports no torch.

The names below are those of `segdecay.api` and of what it takes and returns; each is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segdecay.api import load, lr, train, tune
    from segdecay.data.user_data import UserData
    from segdecay.inference.model import Model
    from segdecay.training.user_api import Axis, Setting, UserFold
    from segdecay.workflows.train import Trained
    from segdecay.workflows.tune import Tuned

__all__ = [
    "Axis",
    "Model",
    "Setting",
    "Trained",
    "Tuned",
    "UserData",
    "UserFold",
    "compare",
    "load",
    "lr",
    "train",
    "tune",
]

_HOMES = {
    "Axis": "segdecay.training.user_api",
    "Model": "segdecay.inference.model",
    "UserData": "segdecay.data.user_data",
    "UserFold": "segdecay.training.user_api",
    "Setting": "segdecay.training.user_api",
    "Trained": "segdecay.workflows.train",
    "Tuned": "segdecay.workflows.tune",
    "compare": "segdecay.api",
    "load": "segdecay.api",
    "lr": "segdecay.api",
    "train": "segdecay.api",
    "tune": "segdecay.api",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
