"""The soak of benchmarks/soak.py: random kills of driver, worker or all over one search (`make soak`).

In `make test`, tests/workflows/test_kill.py kills driver and worker at named moments, and the contract of executors
kills the worker alone.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from paths import ROOT

KILLS = 12


@pytest.mark.soak
def test_random_kills_change_no_bit_and_train_nothing_twice() -> None:
    script = ROOT / "benchmarks" / "soak.py"
    command = [sys.executable, str(script), "--kills", str(KILLS), "--seed", "3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=3600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert sum(found["kills"].values()) >= KILLS / 2
    assert found["starts"] > 1
    assert found["same_verdict"]
    assert found["same_bits"]
