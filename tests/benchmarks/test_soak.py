"""The soak of benchmarks/soak.py, short: random kills of driver, worker or all over one search."""

from __future__ import annotations

import json
import subprocess
import sys

from paths import ROOT


def test_four_random_kills_change_no_bit_and_train_nothing_twice() -> None:
    script = ROOT / "benchmarks" / "soak.py"
    command = [sys.executable, str(script), "--kills", "4", "--seed", "3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert sum(found["kills"].values()) >= 2
    assert found["starts"] > 1
    assert found["same_verdict"]
    assert found["same_bits"]
