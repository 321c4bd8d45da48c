"""A search whose networks learned nothing: no recommendation, no model, one clear sentence everywhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from commands import Said, call
from shapes import write_shapes

import segdecay
from segdecay.errors import RunError

ASLEEP = ["--epochs", "3", "--device", "cpu", "--workers", "0", "--folds", "3"]
for _pair in (
    "search.grid=[0,2]",
    "search.resamples=200",
    "model.width=4",
    "model.depth=2",
    "training.batch_size=4",
    "optimizer.lr=1e-7",
):
    ASLEEP += ["--set", _pair]
TITLE = "Not trained enough to tell"


@pytest.fixture(scope="module")
def slept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Said]:
    folder = tmp_path_factory.mktemp("undertrained")
    data = write_shapes(folder / "shapes", n_images=12, test_images=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGDECAY_CACHE", str(folder / "cache"))
        said = call("tune", data, "--out", folder / "run", *ASLEEP, code=1)
    return data, folder / "run", said


def _verdict(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "verdict.json").read_text())
    return found


def test_nothing_is_recommended(slept: tuple[Path, Path, Said]) -> None:
    _, run, said = slept
    verdict = _verdict(run)
    assert verdict["kind"] == "undertrained"
    assert verdict["paste"] == ""
    assert verdict["strength"]["value"] == 0
    assert verdict["test"] is None
    assert not (run / "model").exists()
    assert not (run / "refit").exists()
    assert f"{TITLE}: The best setting" in said.out
    assert "lines to paste" not in said.out
    assert "model:" not in said.out


def test_only_the_first_fold_is_trained(slept: tuple[Path, Path, Said]) -> None:
    _, run, _ = slept
    assert _verdict(run)["cost"]["trials"] == 2  # no decay and one strength
    assert {path.parent.name for path in run.glob("trials/*/*/trial.json")} == {"0-0"}


def test_the_commands_that_may_help_are_named_with_their_time(slept: tuple[Path, Path, Said]) -> None:
    _, run, said = slept
    advice = _verdict(run)["advice"]
    commands = [one["command"] for one in advice if one["command"]]
    assert any("--epochs 12 " in f"{command} " for command in commands)
    assert any("optimizer.lr=3e-07" in command for command in commands)
    assert all(one["seconds"] > 0 for one in advice[:2])
    assert all(command in said.out for command in commands)


def test_the_page_says_so_first_and_has_no_lines_to_paste(slept: tuple[Path, Path, Said]) -> None:
    _, run, _ = slept
    page = (run / "report.html").read_text(encoding="utf-8")
    page = page[page.index("<main") : page.index("</main>")]
    assert page.index(TITLE) < page.index("What to do") < page.index("This search recommends no value.")
    assert "paste-lines" not in page
    assert "Their difference is left out" in page


def test_commands_that_need_a_model_say_why_there_is_none(slept: tuple[Path, Path, Said]) -> None:
    data, run, _ = slept
    for command in (("predict", run, data / "images", "--out", run.parent / "out"), ("evaluate", run, data)):
        said = call(*command, code=2)
        assert "has no model: not trained enough to tell. The best setting" in said.err
        assert "--refit anyway" in said.err
    with pytest.raises(RunError, match="not trained enough to tell"):
        segdecay.load(run)


def test_a_model_on_request_says_what_it_is(slept: tuple[Path, Path, Said]) -> None:
    data, run, _ = slept
    again = call("tune", data, "--out", run, *ASLEEP, code=1)
    assert TITLE in again.out
    call("tune", data, "--out", run, *ASLEEP, "--refit", "anyway", code=1)
    card = (run / "model" / "README.md").read_text(encoding="utf-8")
    assert f"**{TITLE}.** The best setting" in card
    assert "do not rely on it" in card
    assert _verdict(run)["paste"] == ""


def test_another_word_for_refit_is_refused(slept: tuple[Path, Path, Said]) -> None:
    data, run, _ = slept
    said = call("tune", data, "--out", run.parent / "other", *ASLEEP, "--refit", "always", code=2)
    assert "--refit takes auto or anyway; saw 'always'." in said.err


def test_a_whole_grid_stops_after_the_first_fold_too(slept: tuple[Path, Path, Said]) -> None:
    data, run, _ = slept
    call("tune", data, "--out", run.parent / "grid", *ASLEEP, "--race", "off", code=1)
    assert _verdict(run.parent / "grid")["cost"]["trials"] == 2
