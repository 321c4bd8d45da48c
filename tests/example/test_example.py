"""`example cifar10` on a tiny set: three parts, one page, an audit that is computed; and what it says without data."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import call
from label_data import write_cifar_binary, write_cifar_python

from segdecay.cli.main import run as run_cli
from segdecay.data.formats.cifar10 import find_cifar
from segdecay.errors import DataError
from segdecay.example import article
from segdecay.example import story as download
from segdecay.example.story import accuracy_of, class_results, difference_of, recipe_config, search_config
from segdecay.report import build_report

COMMAND = ["--epochs", "1", "--folds", "3", "--workers", "0"]


def _run(capsys: pytest.CaptureFixture[str], *arguments: str | Path, code: int = 0) -> tuple[str, str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["segdecay", "example", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            run_cli()
    printed = capsys.readouterr()
    assert int(ended.value.code or 0) == code, printed
    return printed.out, printed.err


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """A tiny CIFAR-10, the finished example on it, and what it printed."""
    folder = tmp_path_factory.mktemp("example")
    data, out = write_cifar_binary(folder / "cifar-10-batches-bin", train=90, test=30), folder / "out"
    said = call("example", "cifar10", "--data", folder, *COMMAND, "--out", out)
    return data.parent, out, said.out


def test_every_part_explains_itself_before_it_runs(told: tuple[Path, Path, str]) -> None:
    lines = told[2].splitlines()
    for number, said in (
        (1, "The recipe done right: λ = 0.0005 as L2 on weights alone"),
        (2, "as articles write it"),
        (3, "λ by cross-v"),
    ):
        assert any(line.startswith(f"{number}. ") and said in line for line in lines), said
    text = " ".join(told[2].split())
    assert "In AdamW the same number would be D = Σηλ = 5e-07 over 1 steps: almost no effect." in text
    assert "wrong: decays_twice" in text
    assert "wrong: norm_not_squared" in text
    assert "doubtful: bias_decayed" in text


def test_the_findings_are_those_of_the_code_that_ran(
    told: tuple[Path, Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = json.loads((told[1] / "example.json").read_text())["article"]
    assert {finding["code"] for finding in facts["audit"]["findings"]} >= {
        "decays_twice",
        "norm_not_squared",
        "bias_decayed",
    }
    assert "sum(p.norm() for p in model.parameters())" in facts["lines"]
    assert "weight_decay=5e-4" in facts["lines"]

    def once(model: Any) -> Any:
        import torch

        return torch.optim.Adam(model.parameters(), lr=1e-3), torch.nn.functional.cross_entropy

    monkeypatch.setattr(article, "optimizer_and_loss", once)
    found = _article(told[0])
    assert "decays_twice" not in {finding["code"] for finding in found.audit["findings"]}


def _article(data: Path) -> article.ArticleResult:
    from segdecay.data import load_dataset

    config = recipe_config(data, epochs=1, seed=0)
    return article.run_article(config, load_dataset(config.data)[0])


def test_training_and_reported_test_images_are_augmented_and_clean_ones_are_not(
    told: tuple[Path, Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from segdecay.data.transforms.augment import augment as own

    changed: list[int] = []

    def count(images: Any, masks: Any, **options: Any) -> Any:
        changed.append(len(images))
        return own(images, masks, **options)

    monkeypatch.setattr(article, "augment", count)
    found = _article(told[0])
    assert changed == [90, 30]  # one batch of training images, one of test images: scored clean, they are not among it
    assert found.clean.sum() == found.augmented.sum() == 30


def test_both_recipes_begin_with_the_same_weights(
    told: tuple[Path, Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import load_file

    started: dict[str, Any] = {}
    own = article.optimizer_and_loss

    def keep(model: Any) -> Any:
        started.update({name: value.detach().clone() for name, value in model.state_dict().items()})
        return own(model)

    monkeypatch.setattr(article, "optimizer_and_loss", keep)
    _article(told[0])
    after = load_file(told[1] / "recipe" / "model" / "model.safetensors")
    moves = [float((after[name] - value).abs().max()) for name, value in started.items()]
    assert max(moves) < 1.5e-3  # one step of Adam at 1e-3 from the same start
    assert max(moves) > 5e-4


def test_both_results_stand_side_by_side_with_their_paired_difference(told: tuple[Path, Path, str]) -> None:
    facts = json.loads((told[1] / "example.json").read_text())
    right, wrong, difference = (facts[key] for key in ("recipe", "article", "difference"))
    assert difference["mean"] == pytest.approx(right["accuracy"]["mean"] - wrong["accuracy"]["mean"])
    low, high = difference["interval"]
    assert low <= difference["mean"] <= high
    moved = wrong["reported_minus_clean"]["mean"]
    assert moved == pytest.approx(wrong["reported"]["mean"] - wrong["accuracy"]["mean"])
    assert [row["images"] for row in right["classes"]] == [10, 10, 10]
    assert np.mean([row["recall"] for row in right["classes"]]) == pytest.approx(right["accuracy"]["mean"])
    assert "accuracy" in told[2]
    assert f"{difference['mean']:+.3f}" in told[2]


def test_the_page_shows_both_recipes_the_findings_and_the_verdict(told: tuple[Path, Path, str]) -> None:
    page = (told[1] / "report.html").read_text()
    facts = json.loads((told[1] / "example.json").read_text())
    words = re.sub(r'<script type="text/plain".*?</script>', "", page, flags=re.DOTALL)
    for said in (
        f"Done right {facts['recipe']['accuracy']['mean']:.3f}",
        "decays_twice",
        "norm_not_squared",
        facts["search"]["kind"],
        "search/report.html",
        "sum(p.norm() for p in model.parameters())",
    ):
        assert said in words, said
    assert (told[1] / "search" / "report.html").exists()
    assert (told[1] / "recipe" / "report.html").exists()
    assert build_report(told[1]) == told[1] / "report.html"


def test_the_page_draws_without_complaint_or_request(told: tuple[Path, Path, str], browser: Any) -> None:
    page = browser.open(told[1] / "report.html")
    page.wait_for("document.documentElement.dataset.drawn !== undefined")
    assert page.complaints == []
    assert [url for url in page.requests if not url.startswith("file:")] == []
    assert page.poor_contrasts() == []
    assert page.barriers() == []


def test_the_same_command_trains_nothing_again_and_json_is_alone(
    told: tuple[Path, Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    written = {path: path.stat().st_mtime_ns for path in told[1].rglob("trial.json")}
    written[told[1] / "article" / "article.json"] = (told[1] / "article" / "article.json").stat().st_mtime_ns
    out, _ = _run(capsys, "cifar10", "--data", told[0], *COMMAND, "--out", told[1], "--json", "--quiet")
    before = json.loads((told[1] / "example.json").read_text())
    assert json.loads(out)["difference"] == before["difference"]
    assert {path: path.stat().st_mtime_ns for path in written} == written


def test_a_part_that_was_lost_is_made_again_alike(
    told: tuple[Path, Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = json.loads((told[1] / "example.json").read_text())
    (told[1] / "article" / "article.json").unlink()
    _run(capsys, "cifar10", "--data", told[0], *COMMAND, "--out", told[1], "--quiet")
    after = json.loads((told[1] / "example.json").read_text())
    for key in ("accuracy", "reported", "classes", "losses"):
        assert after["article"][key] == before["article"][key]


def test_another_seed_on_the_same_folder_says_what_differs(
    told: tuple[Path, Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    _, said = _run(capsys, "cifar10", "--data", told[0], *COMMAND, "--out", told[1], "--seed", "3", code=2)
    assert "seed: 0 → 3" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["cifar10"],
            "needs --data FOLDER (of CIFAR-10, from https://www.cs.toronto.edu/~kriz/cifar.html) or --download",
        ),
        (["cifar10", "--data", "x", "--download"], "saw both"),
        (["cifar"], "Unknown example 'cifar'; allowed: cifar10. Did you mean 'cifar10'?"),
        (["cifar10", "--data", "nothing"], "nothing holds no CIFAR-10. Download it from https://www.cs"),
    ],
)
def test_what_is_missing_is_told(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _, error = _run(capsys, *arguments, code=2)
    assert said in error
    assert list(tmp_path.iterdir()) == []


def test_a_set_without_a_test_batch_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    data = write_cifar_binary(tmp_path / "data", test=0)
    _, said = _run(capsys, "cifar10", "--data", data, "--out", tmp_path / "out", code=2)
    assert "has no test_batch" in said


def test_help_imports_no_torch_and_has_an_example() -> None:
    code = (
        "import sys\nsys.argv = ['segdecay', 'example', '--help']\nfrom segdecay.cli.main import run\n"
        "try:\n    run()\nexcept SystemExit:\n    pass\nprint('torch' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "Example:" in found
    assert found.splitlines()[-1] == "False"


# --- fetching: torchvision is replaced at its boundary, since no test asks a network ---------------------------------


def _fetches(monkeypatch: pytest.MonkeyPatch, fetch: Any) -> None:
    monkeypatch.setattr("torchvision.datasets.utils.download_and_extract_archive", fetch)


def test_what_is_fetched_is_checked_by_its_md5_and_read_as_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def fetch(url: str, root: str, *, filename: str, md5: str) -> None:
        asked.update(url=url, md5=md5)
        (Path(root) / filename).write_bytes(b"archive")
        write_cifar_python(Path(root) / "cifar-10-batches-py")

    _fetches(monkeypatch, fetch)
    folder = download.fetch_cifar(tmp_path / "cifar10")
    assert asked == {
        "url": "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        "md5": "c58f30108f718f92721af3b95e74349a",
    }
    assert find_cifar(folder) == folder / "cifar-10-batches-py"
    assert [path.name for path in tmp_path.iterdir()] == ["cifar10"]
    assert [path.name for path in folder.iterdir()] == ["cifar-10-batches-py"]
    _fetches(monkeypatch, None)  # what is there is not fetched again
    assert download.fetch_cifar(tmp_path / "cifar10") == folder


@pytest.mark.parametrize("error", [OSError("no route to host"), RuntimeError("File not found or corrupted.")])
def test_a_failed_fetch_is_one_clear_error_and_leaves_nothing(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fetch(*_arguments: Any, **_options: Any) -> None:
        raise error

    _fetches(monkeypatch, fetch)
    monkeypatch.setenv("SEGDECAY_CACHE", str(tmp_path / "cache"))
    _, said = _run(capsys, "cifar10", "--download", code=2)
    assert (
        f"CIFAR-10 cannot be downloaded from https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz: {error}" in said
    )
    assert "give --data FOLDER" in said
    assert not list((tmp_path / "cache").glob("*"))


def test_a_fetch_of_something_else_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _fetches(monkeypatch, lambda _url, root, **_: (Path(root) / "other").write_text("x"))
    with pytest.raises(DataError, match=r"is not CIFAR-10. Remove the folder"):
        download.fetch_cifar(tmp_path / "cifar10")


# --- comparing --------------------------------------------------------------------------------------------------------


def _matrices(right: list[bool]) -> np.ndarray:
    return np.array([[[1, 0], [0, 0]] if one else [[0, 1], [0, 0]] for one in right])


def test_the_paired_interval_is_that_of_the_mean_of_differences() -> None:
    random = np.random.default_rng(0)
    one, other = random.random(400) < 0.7, random.random(400) < 0.6
    found = difference_of(_matrices(one.tolist()), _matrices(other.tolist()))
    differences = one.astype(float) - other
    error = differences.std(ddof=1) / 20
    assert found.mean == pytest.approx(differences.mean())
    assert found.interval is not None
    assert found.interval == pytest.approx(
        (differences.mean() - 1.97 * error, differences.mean() + 1.97 * error), abs=0.006
    )


def test_equal_results_differ_by_nothing_and_single_accuracies_have_intervals() -> None:
    same = _matrices([True] * 6 + [False] * 4)
    found = difference_of(same, same)
    assert (found.mean, found.interval) == (0.0, (0.0, 0.0))
    own = accuracy_of(same)
    assert own.mean == pytest.approx(0.6)
    assert own.interval is not None
    assert own.interval[0] < 0.6 < own.interval[1]
    assert class_results(same, ("a", "b"))[1].recall is None


def test_the_two_recipes_and_the_search_differ_in_nothing_but_decay(tmp_path: Path) -> None:
    one, other = (
        make.model_dump(exclude={"decay", "search"})
        for make in (
            recipe_config(tmp_path, epochs=2, seed=1),
            search_config(tmp_path, epochs=2, seed=1, folds=3),
        )
    )
    assert one == other
