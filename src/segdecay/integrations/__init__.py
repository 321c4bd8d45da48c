"""Decay in somebody else's trainer: a callback for Lightning, one for transformers.

Importing this package imports neither of them, nor torch; each callback's module imports its trainer when it is used.
"""

from __future__ import annotations

import importlib
from types import ModuleType

__all__ = ["lightning", "transformers"]


def __getattr__(name: str) -> ModuleType:
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
