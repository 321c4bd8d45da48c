"""Every example and every block of docs/integrations.md runs, and prints what it promises."""

from __future__ import annotations

import contextlib
import io
import re
import runpy
from pathlib import Path

import pytest
from paths import ROOT

BLOCKS = re.findall(
    r"```python\n(.*?)```", (ROOT / "docs" / "integrations.md").read_text(encoding="utf-8"), flags=re.DOTALL
)
TERMS = re.compile(r"L_original (\d+\.\d+) \+ λR (\d+\.\d+) = L (\d+\.\d+)")
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning"),
]


def run_example(name: str, capsys: pytest.CaptureFixture[str]) -> tuple[str, list[float]]:
    """What an example prints, and L_original line by line; checks every line's sum."""
    runpy.run_path(str(ROOT / "examples" / name), run_name="__main__")
    said = capsys.readouterr().out
    lines = [tuple(float(number) for number in match) for match in TERMS.findall(said)]
    assert lines
    for original, penalty, total in lines:
        assert total == pytest.approx(original + penalty, abs=2e-4)
    assert any(penalty > 0 for _, penalty, _ in lines)
    return said, [original for original, _, _ in lines]


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.name)
def test_an_example_is_short_and_has_a_test(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) < 100
    assert f'"{path.name}"' in Path(__file__).read_text(encoding="utf-8")


def test_the_plain_loop_learns(capsys: pytest.CaptureFixture[str]) -> None:
    said, losses = run_example("plain_loop.py", capsys)
    assert losses[-1] < 0.5 * losses[0]
    (right, background) = re.findall(r"0\.\d+", said.splitlines()[-1])
    assert float(right) > 0.75
    assert float(background) < 0.9


def test_the_lightning_example_learns_and_reaches_its_total_decay(capsys: pytest.CaptureFixture[str]) -> None:
    said, losses = run_example("lightning_segmentation.py", capsys)
    assert losses[-1] < 0.5 * losses[0]
    # Σ η over 72 steps of a cosine from 0.01 is 0.01 · (72 + 1) / 2; D is 0.05
    assert f"λ = {0.05 / (0.01 * 73 / 2):.4f}" in said
    assert "over 72 steps" in said


def test_the_segformer_example_learns_and_reaches_its_total_decay(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("accelerate", reason="transformers.Trainer needs accelerate")
    said, losses = run_example("transformers_segformer.py", capsys)
    assert losses[-1] < 0.5 * losses[0]
    # Σ η over 48 steps of a line from 0.005 is 0.005 · (48 + 1) / 2; D is 0.02
    assert f"λ = {0.02 / (0.005 * 49 / 2):.4f}" in said


def test_the_detector_example_shows_its_table_and_gives_the_decay_back(capsys: pytest.CaptureFixture[str]) -> None:
    said, losses = run_example("torchvision_detector.py", capsys)
    assert len(losses) == 6
    assert losses[-1] < losses[0]
    assert len(re.findall(r"^head +head\.", said, flags=re.MULTILINE)) == 12
    assert "after detach: 0.01" in said


def test_the_classifier_example_prints_a_real_accuracy(capsys: pytest.CaptureFixture[str]) -> None:
    said, _ = run_example("classifier.py", capsys)
    accuracies = [float(number) for number in re.findall(r"unseen digits: (\d\.\d+)", said)]
    assert len(accuracies) == 2
    assert all(0.9 < accuracy < 1 for accuracy in accuracies)


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
@pytest.mark.parametrize("number", range(3))
def test_a_block_of_the_docs_runs(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(BLOCKS) == 3
    if "transformers" in BLOCKS[number]:
        pytest.importorskip("accelerate", reason="transformers.Trainer needs accelerate")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "block.py").write_text(BLOCKS[number], encoding="utf-8")
    names = runpy.run_path(str(tmp_path / "block.py"))
    handle = names["handle"] if "handle" in names else names["decay"].handles[0]
    assert handle.steps > 0
    assert not handle.is_attached()


@pytest.mark.parametrize("trainer", ["lightning", "transformers"])
def test_the_callback_on_a_page_of_a_task_is_built(trainer: str) -> None:
    page = (ROOT / "docs" / "how-to" / f"{trainer}.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    names: dict[str, object] = {}
    exec(compile(code, page, "exec"), names)  # noqa: S102  (the page's own code)
    assert type(names["decay"]).__module__ == f"segdecay.integrations.{trainer}"


def test_the_docs_name_every_example() -> None:
    said = (ROOT / "docs" / "integrations.md").read_text(encoding="utf-8")
    assert [path.name for path in (ROOT / "examples").glob("*.py") if f"`{path.name}`" not in said] == []


@pytest.fixture(scope="module")
def own_loop_lines() -> list[str]:
    """What the loop of one's own ends with, and then the built-in one on the same data."""
    with contextlib.redirect_stdout(io.StringIO()) as said:
        runpy.run_path(str(ROOT / "examples" / "own_loop.py"), run_name="__main__")
    return said.getvalue().splitlines()


def test_a_loop_of_ones_own_ends_with_the_verdict_of_the_built_in_one(own_loop_lines: list[str]) -> None:
    own, built_in = own_loop_lines
    assert re.match(r"own loop: (zero|chosen|flat|edge|undertrained), D = \d", own)
    assert own.removeprefix("own loop") == built_in.removeprefix("built in")


def test_a_lightning_module_ends_with_the_verdict_of_the_built_in_loop(
    own_loop_lines: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    runpy.run_path(str(ROOT / "examples" / "own_lightning.py"), run_name="__main__")
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("own module")]
    assert said == [own_loop_lines[1].replace("built in", "own module")]
