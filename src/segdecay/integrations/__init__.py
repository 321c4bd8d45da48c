"""Decay in the trainers of Lightning and transformers, and tuning as a scikit-learn estimator.

Importing this package imports neither these libraries nor torch; each module imports its library when it is used.
"""

from __future__ import annotations

import importlib
from types import ModuleType

__all__ = ["lightning", "sklearn", "transformers"]


def __getattr__(name: str) -> ModuleType:
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
