"""A training imports Fabric, and not what Fabric looks for in passing."""

from __future__ import annotations

import json
import subprocess
import sys

HEAVY = ("torchmetrics", "torchvision", "transformers", "sklearn")
CODE = f"""
import json, sys
import segdecay.training.dispatch
from lightning_fabric.utilities import imports
from lightning_utilities.core.imports import compare_version
heavy = [name for name in {HEAVY} if name in sys.modules]
print(json.dumps([heavy, imports._TORCHMETRICS_GREATER_EQUAL_1_0_0, compare_version.__module__]))
"""


def test_a_training_starts_without_the_libraries_that_it_does_not_use() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    heavy, is_new_enough, home = json.loads(done.stdout)
    assert heavy == []
    assert is_new_enough is True  # torchmetrics of the development environment, by its metadata
    assert home == "lightning_utilities.core.imports"  # as it was
