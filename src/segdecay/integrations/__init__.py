"""Decay in somebody else's trainer (Lightning, transformers), and tuning as a scikit-learn estimator.

Importing this package imports none of them, nor torch; each module imports its trainer when it is used.
"""

from __future__ import annotations

import importlib
from types import ModuleType

__all__ = ["lightning", "sklearn", "transformers"]


def __getattr__(name: str) -> ModuleType:
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
