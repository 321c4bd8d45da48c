"""Train segmentation networks with weight decay under control; `import segdecay` imports no torch.

The names below are those of `segdecay.api` and of what it takes and returns; each is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segdecay.api import (
        audit,
        check,
        compare,
        estimate,
        evaluate,
        export,
        load,
        lr,
        predict,
        report,
        strength,
        train,
        tune,
    )
    from segdecay.data.user_data import UserData
    from segdecay.inference.model import Model
    from segdecay.training.user_api import Axis, Setting, UserFold
    from segdecay.workflows import plot
    from segdecay.workflows.callbacks import Callback
    from segdecay.workflows.train import Trained
    from segdecay.workflows.tune import Tuned

    __version__: str

__all__ = [
    "Axis", "Callback", "Model", "Setting", "Trained", "Tuned", "UserData", "UserFold", "__version__", "audit", "check",
    "compare", "confusion", "estimate", "evaluate", "export", "load", "lr", "plot", "predict", "report", "strength",
    "train", "tune",
]  # fmt: skip

_FUNCTIONS = (
    "audit", "check", "compare", "confusion", "estimate", "evaluate", "export", "load", "lr", "predict", "strength",
    "train", "tune",
)  # fmt: skip
_HOMES = {
    "Axis": "segdecay.training.user_api",
    "Callback": "segdecay.workflows.callbacks",
    "Model": "segdecay.inference.model",
    "UserData": "segdecay.data.user_data",
    "UserFold": "segdecay.training.user_api",
    "Setting": "segdecay.training.user_api",
    "Trained": "segdecay.workflows.train",
    "Tuned": "segdecay.workflows.tune",
    **dict.fromkeys(_FUNCTIONS, "segdecay.api"),
}
_MODULES = {"plot": "segdecay.workflows.plot", "report": "segdecay.report"}  # `report` is called as a function


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("segdecay")
    if name in _MODULES:
        return importlib.import_module(_MODULES[name])
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
