"""README.md is short, its figures are those of the record, its lines run; README.zh-CN.md says the same."""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from markdown_blocks import blocks_of, prose_of
from paths import ROOT
from PIL import Image

import segdecay

ENGLISH = (ROOT / "README.md").read_text(encoding="utf-8")
CHINESE = (ROOT / "README.zh-CN.md").read_text(encoding="utf-8")
START = (ROOT / "docs" / "start.md").read_text(encoding="utf-8")
VERDICT = json.loads((ROOT / "docs" / "records" / "digits" / "verdict.json").read_text(encoding="utf-8"))


def without_comments(code: str) -> str:
    return "\n".join(re.sub(r"\s+#.*$", "", line) for line in code.splitlines())


def test_the_readme_fits_its_length() -> None:
    assert len(ENGLISH.splitlines()) <= 120
    assert len(CHINESE.splitlines()) <= 120


@pytest.mark.parametrize("page", [ENGLISH, CHINESE], ids=["English", "Chinese"])
def test_figures_in_the_readme_come_from_the_committed_record(page: str) -> None:
    low, high = VERDICT["zero"]["difference_interval"]
    chosen, zero = VERDICT["selection"]["mean"], VERDICT["zero"]["mean"]
    tests = {kind: VERDICT["test"][kind]["score"] for kind in ("chosen", "zero")}
    assert f"λ = {VERDICT['strength']['lambda']:.2f}" in page
    folds = [zero, chosen]
    (row,) = [line for line in page.splitlines() if f"{chosen:.3f}" in line]
    assert all(f"{one:.3f}" in row for one in folds)
    assert f"{chosen - zero:+.3f}" in row
    assert f"{low:+.3f}" in row
    assert f"{high:+.3f}" in row
    assert f"| {tests['zero']:.3f} | {tests['chosen']:.3f} | {tests['chosen'] - tests['zero']:+.3f} |" in page
    assert f"`{VERDICT['kind']}`" in page


def test_figures_of_the_first_run_come_from_the_committed_record() -> None:
    low, high = VERDICT["zero"]["difference_interval"]
    for figure in (VERDICT["selection"]["mean"], VERDICT["zero"]["mean"]):
        assert f"{figure:.3f}" in START
    assert f"{low:+.3f}" in START
    assert f"{high:+.3f}" in START


def test_the_figures_beside_other_ways_stand_on_the_page_of_the_race() -> None:
    race = (ROOT / "docs" / "race.md").read_text(encoding="utf-8")
    assert "take 1,977 s" in race
    assert "takes 255 s" in race
    equal = {  # share of replays with the full grid's verdict, by selector
        name: int(share) for name, share in re.findall(r"^\| ([^|]+?) \| [^|]* · (\d+)% \|", race, flags=re.MULTILINE)
    }
    pruned = [share for name, share in equal.items() if name.startswith("TPE") and name.endswith("equal epochs")]
    for page in (ENGLISH, CHINESE):
        assert re.search(rf"{min(pruned)} \S+ {max(pruned)} %", page)
        assert f"| {equal['race']} % |" in page


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as the README's lines expect it, beside an image to predict; and a search that takes seconds."""
    for index in range(8):
        mask = np.zeros((16, 16), np.uint8)
        mask[2 : 6 + index, 4:12] = 1
        for part, pixels in (("images", np.stack([mask * 120 + 60 + index] * 3, axis=-1)), ("masks", mask)):
            (tmp_path / "photos" / part).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "photos" / part / f"{index}.png")
    (tmp_path / "photos" / "classes.txt").write_text("background\nbox\n", encoding="utf-8")
    Image.open(tmp_path / "photos" / "images" / "3.png").save(tmp_path / "new.png")
    keys: dict[str, Any] = {"model.width": 4, "model.depth": 2, "search.resamples": 200}
    small = functools.partial(
        segdecay.tune, folds=2, epochs=1, grid=[0, 0.05], set=keys, workers=0, quiet=True, refit="anyway"
    )
    monkeypatch.setattr(segdecay, "tune", small, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_lines_of_the_readme_run(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = blocks_of(ENGLISH, "python")
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(code, "README.md", "exec"), names)  # noqa: S102  (the README's own code)
    assert capsys.readouterr().out.strip() == names["done"].verdict.sentence
    assert names["mask"].shape == (16, 16)
    assert (photos / "runs" / "photos" / "report.html").is_file()
    deploy = (ROOT / "docs" / "how-to" / "deploy.md").read_text(encoding="utf-8")
    (code,) = blocks_of(deploy, "python")
    exec(compile(code, "deploy.md", "exec"), names)  # noqa: S102  (the page's own code)
    assert names["probabilities"].shape == (2, 16, 16)


def test_the_first_page_and_the_chinese_readme_have_the_same_lines() -> None:
    lines = [without_comments(code) for page in (ENGLISH, CHINESE, START) for code in blocks_of(page, "python")]
    assert len(lines) == 3
    assert lines[0] == lines[1] == lines[2]


def test_the_chinese_readme_has_the_same_headings_commands_links_and_tables() -> None:
    for page in (ENGLISH, CHINESE):
        assert [len(one) for one in re.findall(r"^(#+) ", page, flags=re.MULTILINE)] == [1, 2, 2, 2, 2, 2]
    commands = [[without_comments(code) for code in blocks_of(page, "")] for page in (ENGLISH, CHINESE)]
    assert commands[0] == commands[1]
    links = [set(re.findall(r"\]\(([^)]+)\)", prose_of(page))) for page in (ENGLISH, CHINESE)]
    assert links[1] - links[0] == {"README.md", "docs/zh/cifar10.md"}
    assert links[0] - links[1] == {"README.zh-CN.md"}
    rows = [[line.count("|") for line in page.splitlines() if line.startswith("|")] for page in (ENGLISH, CHINESE)]
    assert len(rows[1]) - len(rows[0]) == 1  # the Chinese page that the English one does not list
    assert set(rows[0]) == set(rows[1])


@pytest.mark.parametrize("term", ["权重衰减", "正则化强度", "交叉验证"])
def test_the_chinese_pages_use_the_terms_of_textbooks(term: str) -> None:
    recipe = (ROOT / "docs" / "zh" / "cifar10.md").read_text(encoding="utf-8")
    assert term in CHINESE
    assert term in recipe or term == "正则化强度"
    assert "权值衰减" not in CHINESE + recipe


def test_the_figures_of_the_chinese_page_are_those_of_the_english_one() -> None:
    recipe = (ROOT / "docs" / "zh" / "cifar10.md").read_text(encoding="utf-8")
    english = (ROOT / "docs" / "classification.md").read_text(encoding="utf-8")
    measured = recipe.split("## 测得的结果", 1)[1].split("\n## ", 1)[0]
    figures = re.findall(r"[+−]?\.\d{3}|\d,\d{3}|\d+e-\d", measured)
    assert len(figures) >= 12
    assert [one for one in figures if one.lstrip("+−") not in english] == []
    assert "segdecay example cifar10 --data FOLDER --out runs/cifar10" in english
    assert "segdecay example cifar10 --data FOLDER --out runs/cifar10" in recipe
