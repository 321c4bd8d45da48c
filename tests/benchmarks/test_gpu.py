"""The script for a GPU, on a CPU: every part that needs no card runs to its end."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
PARTS = ("the same trial", "regularizers", "steps", "memory", "prediction")


def test_the_parts_run_on_a_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gpu

    out = tmp_path / "cpu.json"
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--device", "cpu", "--quick", "--out", str(out), "--only", *PARTS])
    gpu.main()
    found = json.loads(out.read_text())
    assert set(PARTS) < set(found)
    assert not [name for name in PARTS if "failed" in found[name]]
    assert found["the same trial"]["cpu, 32-true"]["last epoch's loss differs by"] == 0
    differences = [value for row in found["regularizers"].values() if isinstance(row, dict) for value in row.values()]
    assert all(isinstance(value, float) for value in differences)
    assert max(row["fused"] for row in found["regularizers"].values() if isinstance(row, dict)) < 1e-5
    assert found["steps"]["unet-tiny"]["ratio"] > 0


def test_a_part_that_fails_does_not_cost_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gpu

    def fail(_place: gpu.Place) -> dict[str, object]:
        raise RuntimeError("no card")

    monkeypatch.setitem(gpu.PARTS, "determinism", fail)
    out = tmp_path / "cpu.json"
    argv = ["gpu.py", "--device", "cpu", "--quick", "--out", str(out), "--only", "determinism", "memory"]
    monkeypatch.setattr(sys, "argv", argv)
    gpu.main()
    found = json.loads(out.read_text())
    assert found["determinism"]["failed"] == "RuntimeError: no card"
    assert "not measured" in found["memory"]
