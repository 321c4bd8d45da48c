"""`segdecay lr` and `segdecay.lr`: a suggestion with its picture, resumed, refused, and where nothing learns."""

from __future__ import annotations

import json
from pathlib import Path

from commands import Command

import segdecay as package

SHORT = ("--set", "model.width=4", "--steps", "40", "--lowest", "1e-4", "--highest", "0.5")


def test_it_suggests_a_rate_and_changes_nothing(segdecay: Command, shapes: Path, tmp_path: Path) -> None:
    out = tmp_path / "lr"
    before = sorted(path.name for path in shapes.rglob("*"))
    said = segdecay("lr", str(shapes), "--out", str(out), *SHORT).out
    assert "Range test of 40 steps without decay and at a middle strength, rates 0.0001 to 0.5: about" in said
    kept = json.loads((out / "lr.json").read_text())
    rate = kept["suggestion"]["rate"]
    assert f"Suggested learning rate: {rate:g}. The configured 0.003" in said
    assert f"Tune at it: segdecay tune {shapes} --set optimizer.lr={rate:g}" in said
    assert "At D = " in said
    assert "Nothing was changed." in said
    picture = (out / "lr.svg").read_text()
    assert f"suggested {rate:g}" in picture
    assert "configured 0.003" in picture
    assert sorted(path.name for path in shapes.rglob("*")) == before

    again = segdecay("lr", str(shapes), "--out", str(out), *SHORT, "--json").out
    assert json.loads(again)["suggestion"] == kept["suggestion"]  # read, not run again
    told = package.lr(shapes, set={"model.width": 4}, steps=40, lowest=1e-4, highest=0.5, out=out, quiet=True)
    assert told.suggestion.rate == rate
    assert told.curves[1].strength > 0


def test_other_rates_in_the_same_folder_are_refused(segdecay: Command, shapes: Path, tmp_path: Path) -> None:
    out = ("--out", str(tmp_path / "lr"))
    segdecay("lr", str(shapes), *out, *SHORT)
    assert (
        "was made from other rates or data"
        in segdecay("lr", str(shapes), *out, "--steps", "50", *SHORT[:2], code=2).err
    )


def test_rates_at_which_nothing_learns_end_with_1_and_what_to_do(
    segdecay: Command, shapes: Path, tmp_path: Path
) -> None:
    none = segdecay(
        "lr", str(shapes), "--out", str(tmp_path / "low"), *SHORT[:4], "--lowest", "1e-9", "--highest", "1e-8", code=1
    ).out
    assert "No learning rate is suggested: the loss does not fall up to 1e-08" in none
    assert "Go higher (--highest)" in none
    high = segdecay(
        "lr", str(shapes), "--out", str(tmp_path / "high"), "--set", "optimizer.name=sgd", "--set",
        "training.clip_norm=null", *SHORT[:4], "--lowest", "1e6", "--highest", "1e8", code=1
    ).out  # fmt: skip
    assert "No learning rate is suggested: the loss diverges at" in high
    assert "Start lower (--lowest)" in high


def test_all_faults_are_told_at_once(segdecay: Command, shapes: Path) -> None:
    said = segdecay("lr", str(shapes), "--steps", "3", "--lowest", "1", "--highest", "0.1", code=2).err
    assert "--lowest must be above 0 and below --highest; saw 1 and 0.1" in said
    assert "--steps: a range test needs at least 30; saw 3" in said
