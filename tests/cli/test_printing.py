"""What commands print: in every encoding, in 80 columns, once; and where an unknown option is found."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from commands import Command
from PIL import Image
from rich.console import Console
from shapes import write_shapes
from small_search import SmallSearch

from segdecay.cli.check import fold_tables
from segdecay.utils.printable import PLAIN, printable


def test_a_search_prints_in_ascii(small_search: SmallSearch) -> None:
    said = small_search.said
    assert said.err == ""
    assert "(lambda 0)" in said.out
    assert "tau epochs" in said.out
    assert "\\u" not in said.out


def test_tables_of_a_search_fit_80_columns(small_search: SmallSearch) -> None:
    lines = small_search.said.out.splitlines()
    start = next(row for row, line in enumerate(lines) if "by strength" in line)
    table = lines[start : start + 5]
    assert max(len(line.rstrip()) for line in table) <= 80
    words = [word.strip() for word in table[2].strip("|").split("|")]
    assert words == ["D", "tau epochs", "lambda", "mIoU", "+- SE", "train", "gap", "difference from no decay"]


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "latin-1", "cp932", "utf-8"])
@pytest.mark.parametrize(
    "arguments",
    [
        ("regularizers",),
        ("regularizers", "decoupled"),
        ("tune", "--help"),
        ("strength", "--images", "367", "--lambda", "0.05"),
        ("strength", "--images", "367", "--lambda", "0.05", "--json"),
        ("tune", "λ-nowhere"),
    ],
)
def test_every_encoding_prints(encoding: str, arguments: tuple[str, ...], segdecay: Command) -> None:
    said = segdecay(*arguments, encoding=encoding, code=2 if "λ-nowhere" in arguments else 0)
    assert said.out or said.err
    if "--json" in arguments:
        assert "λ" in json.loads(said.out)["formula"]  # escaped where it cannot be written


def test_a_page_of_help_keeps_its_words(segdecay: Command) -> None:
    assert "Choose lambda by cross-validation" in segdecay("tune", "--help", encoding="cp1252").out
    assert "theta <- (1 - eta·lambda)·theta - eta·u" in segdecay("regularizers", encoding="cp1252").out


def test_characters_are_replaced_by_words_that_ascii_has() -> None:
    assert all(words.isascii() and words for words in PLAIN.values())
    assert printable("λ → 0 … café 山", "ascii") == "lambda -> 0 ... cafe \\u5c71"
    assert printable("λ", "utf-8") == "λ"


def test_pixels_by_fold_are_readable_at_80_columns() -> None:
    names = ["a class with a name that is rather long, and then some more", "road"]
    counts = [[123_456_789 + fold for fold in range(12)], list(range(12))]
    screen = io.StringIO()
    console = Console(file=screen, width=80)
    for table in fold_tables(names, counts, "pixels", 80):
        console.print(table)
    said = screen.getvalue()
    assert max(map(len, said.splitlines())) <= 80
    assert "…" not in said
    for fold in range(12):
        assert f"{123_456_789 + fold:,}" in said
        assert f"fold {fold + 1}" in said
    assert "Validation pixels by fold, continued" in said


def test_an_audit_is_readable_at_80_columns(segdecay: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "a_layer_with_a_name_that_is_rather_long_as_those_of_large_networks_are"
    (tmp_path / "printed_audit.py").write_text(
        f"import torch\ndef build():\n    net = torch.nn.Sequential()\n    net.{name} = torch.nn.Linear(3, 2)\n"
        "    return net, torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=0.1)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("COLUMNS", "80")
    for options in ((), ("--by-parameter",)):
        said = segdecay("audit", "printed_audit:build", *options, encoding="ascii", code=None).out
        table = said[said.rindex("group" if not options else "shape") :].splitlines()
        assert max(map(len, table)) <= 100  # a name alone may be longer
        assert f"{name}.weight" in said
        assert "tau epochs" in table[0]
        numbers = [line for line in table[1:] if not line.startswith("    ")]
        assert max(map(len, [table[0], *numbers])) <= 80


def test_check_prints_whole_names_and_numbers(small_search: SmallSearch, segdecay: Command) -> None:
    said = segdecay("check", small_search.data, "--folds", 5).out
    assert "…" not in said
    assert "ground" in said
    assert max(map(len, (line.rstrip() for line in said.splitlines()))) <= 80


def test_init_says_its_guesses_once(tmp_path: Path, segdecay: Command) -> None:
    data = write_shapes(tmp_path / "shapes")
    shown = segdecay("init", data)
    assert (shown.out + shown.err).count("groups.csv gives") == 1
    assert shown.err == ""
    written = segdecay("init", data, "--write")
    assert (written.out + written.err).count("groups.csv gives") == 1
    assert f"wrote {data / 'dataset.yaml'}" in written.out


def test_predict_has_a_bar_of_images_in_place_of_a_line_each(
    small_search: SmallSearch, tmp_path: Path, segdecay: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = small_search.run
    monkeypatch.chdir(tmp_path)
    images = [tmp_path / f"{name}.png" for name in "abc"]
    for image in images:
        Image.fromarray(np.full((20, 20, 3), 120, np.uint8)).save(image)
    plain = segdecay("predict", run, *images).out
    assert plain == "3 images predicted: mask, overlay in predicted/run\n"
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    drawn = segdecay("predict", run, *images).out
    assert "3/3" in drawn
    assert "windows" not in drawn
    assert "images" not in segdecay("predict", run, *images, "--quiet").out.replace("3 images predicted", "")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("tune", "digits", "--lr", "1"), "It is a key: --set optimizer.lr=VALUE"),
        (("train", "digits", "--batch-size", "1"), "It is a key: --set training.batch_size=VALUE"),
        (("tune", "digits", "--lambda", "1"), "One strength: segdecay train DATA --lambda 0.01"),
        (("tune", "digits", "--weight-decay", "1"), "tune searches the strength: --set search.grid=[0,1,4]"),
        (("train", "digits", "--wd", "1"), "The strength of one training is --lambda"),
        (("train", "digits", "--folds", "3"), "It is an option of segdecay check, segdecay tune"),
        (("compare", "digits", "--optimizer", "sgd"), "--set optimizer.name=NAME"),
        (("tune", "digits", "--foldz", "3"), "--folds"),
    ],
)
def test_an_unknown_option_is_told_where_it_is_found(
    arguments: tuple[str, ...], said: str, segdecay: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert said in segdecay(*arguments, code=2).err


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("adamw", "AdamW's weight decay is 'decoupled'; the optimizer itself is chosen with optimizer.name"),
        ("SGD", "SGD's weight decay is 'l2'"),
        ("ridge", "Here it is called 'l2'"),
    ],
)
def test_a_name_from_elsewhere_is_told_ours(name: str, said: str, segdecay: Command, tmp_path: Path) -> None:
    assert said in segdecay("tune", "digits", "--decay", name, "--out", tmp_path / "run", code=2).err


def test_completion_knows_the_commands(monkeypatch: pytest.MonkeyPatch, segdecay: Command) -> None:
    monkeypatch.setenv("_SEGDECAY_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "segdecay tu")
    monkeypatch.setenv("COMP_CWORD", "1")
    assert segdecay().out.split() == ["tune"]
