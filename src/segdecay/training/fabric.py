"""Fabric, imported without what it does not need here.

It asks which version of torchmetrics is installed by importing it, and torchmetrics imports torchvision and
transformers where they are: 3 s at every start of a command or a worker. The package's own metadata says the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lightning_utilities.core import imports


@contextmanager
def _by_metadata() -> Iterator[None]:
    """Versions of torchmetrics are compared as its metadata states them."""
    by_import = imports.compare_version

    def compare(package: str, op: Any, version: str, *rest: Any, **options: Any) -> bool:
        if package == "torchmetrics" and op.__name__ == "ge":
            return bool(imports.RequirementCache(f"{package}>={version}"))
        return bool(by_import(package, op, version, *rest, **options))

    imports.compare_version = compare
    try:
        yield
    finally:
        imports.compare_version = by_import


with _by_metadata():
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment
    from lightning_fabric.strategies.ddp import DDPStrategy
    from lightning_fabric.wrappers import _FabricModule as FabricModule

__all__ = ["DDPStrategy", "Fabric", "FabricModule", "LightningEnvironment"]
