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
from scipy import stats

from segdecay.cli.main import run as run_cli
from segdecay.data.formats.cifar10 import find_cifar
from segdecay.example import article
from segdecay.example.story import compare, fetch_cifar, paired_difference, recipe_config
from segdecay.report import build_report
from segdecay.training import batches

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
        (1, "The recipe done right"),
        (2, "as articles write it"),
        (3, "λ by cross-validation"),
    ):
        assert any(line.startswith(f"{number}. ") and said in line for line in lines), said
    text = " ".join(told[2].split())
    assert "λ = 0.0005 as L2 on weights alone" in text
    assert "In AdamW the same number would be D = Σηλ = 5e-07 over 1 steps: almost no effect." in text
    assert "wrong: decays_twice" in text
    assert "wrong: norm_not_squared" in text
    assert "doubtful: bias_decayed" in text


def test_the_findings_are_those_of_the_code_that_ran(
    told: tuple[Path, Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = _facts(told[1])
    codes = [finding["code"] for finding in facts["findings"]]
    assert {"decays_twice", "norm_not_squared", "bias_decayed"} <= set(codes)
    assert len(codes) == len(set(codes))
    assert "sum(p.norm() for p in model.parameters())" in facts["lines"]
    assert "weight_decay=5e-4" in facts["lines"]

    def once(model: Any) -> Any:
        import torch

        return torch.optim.Adam(model.parameters(), lr=1e-3), torch.nn.functional.cross_entropy

    monkeypatch.setattr(article, "optimizer_and_loss", once)
    found = _article(told[0])
    assert "decays_twice" not in {finding.code for finding in found.findings}


def _facts(out: Path) -> Any:
    return json.loads((out / "search" / "example.json").read_text())


def _article(data: Path) -> article.Article:
    from segdecay.data import load_dataset

    config = recipe_config(data, epochs=1, seed=0)
    return article.run_article(config, load_dataset(config.data)[0])


def test_training_and_reported_test_images_are_augmented_and_clean_ones_are_not(
    told: tuple[Path, Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = batches.training_batch
    changed: list[int] = []

    def count(config: Any, dataset: Any, train: Any, indices: Any, draws: Any, **options: Any) -> Any:
        changed.append(len(indices))
        return own(config, dataset, train, indices, draws, **options)

    monkeypatch.setattr(article, "training_batch", count)
    found = _article(told[0])
    assert changed == [90, 30]  # one batch of training images, one of test images: scored clean, they are not among it
    assert len(found.clean) == len(found.augmented) == 30


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
    facts = _facts(told[1])
    whole, *classes = facts["rows"]
    assert whole["difference"]["mean"] == pytest.approx(whole["right"] - whole["article"])
    low, high = whole["difference"]["interval"]
    assert low <= whole["difference"]["mean"] <= high
    assert facts["moved"]["mean"] == pytest.approx(facts["reported"] - whole["article"])
    assert [row["images"] for row in classes] == [10, 10, 10]
    assert np.mean([row["right"] for row in classes]) == pytest.approx(whole["right"])
    text = " ".join(told[2].split())
    assert f"the first recipe reaches {whole['right']:.3f}, the second {whole['article']:.3f}" in text
    assert "Correct clean test images" in text


def test_the_page_of_the_search_shows_both_recipes_and_the_findings(told: tuple[Path, Path, str]) -> None:
    page = (told[1] / "search" / "report.html").read_text()
    words = re.sub(r'<script type="text/plain".*?</script>', "", page, flags=re.DOTALL)
    for said in (
        f"Done right {_facts(told[1])['rows'][0]['right']:.3f}",
        "decays_twice",
        "norm_not_squared",
        "../recipe/report.html",
        "sum(p.norm() for p in model.parameters())",
    ):
        assert said in words, said
    assert (told[1] / "recipe" / "report.html").exists()
    assert build_report(told[1] / "search") == told[1] / "search" / "report.html"
    assert "decays_twice" not in (told[1] / "recipe" / "report.html").read_text()


def test_the_page_draws_without_complaint_or_request(told: tuple[Path, Path, str], browser: Any) -> None:
    page = browser.open(told[1] / "search" / "report.html")
    page.wait_for("document.documentElement.dataset.drawn !== undefined")
    assert page.complaints == []
    assert [url for url in page.requests if not url.startswith("file:")] == []
    assert page.poor_contrasts() == []
    assert page.barriers() == []


def test_the_same_command_trains_nothing_again_and_json_is_alone(
    told: tuple[Path, Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    written = {path: path.stat().st_mtime_ns for path in told[1].rglob("trial.json")}
    written[told[1] / "article.json"] = (told[1] / "article.json").stat().st_mtime_ns
    out, _ = _run(capsys, "cifar10", "--data", told[0], *COMMAND, "--out", told[1], "--json", "--quiet")
    assert json.loads(out)["rows"] == _facts(told[1])["rows"]
    assert {path: path.stat().st_mtime_ns for path in written} == written


def test_a_part_that_was_lost_is_made_again_alike(
    told: tuple[Path, Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = (told[1] / "article.json").read_text()
    (told[1] / "article.json").write_text("{}")
    _, said = _run(capsys, "cifar10", "--data", told[0], *COMMAND, "--out", told[1], "--quiet", code=2)
    assert "article.json is damaged" in said
    (told[1] / "article.json").unlink()
    _run(capsys, "cifar10", "--data", told[0], *COMMAND, "--out", told[1], "--quiet")
    assert (told[1] / "article.json").read_text() == before


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


def test_what_torchvision_fetches_is_read_as_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(root: str, *, download: bool) -> None:
        assert download
        write_cifar_python(Path(root) / "cifar-10-batches-py")
        (Path(root) / "cifar-10-python.tar.gz").write_bytes(b"archive")

    fetch.filename = "cifar-10-python.tar.gz"  # type: ignore[attr-defined]
    monkeypatch.setattr("torchvision.datasets.CIFAR10", fetch)
    folder = fetch_cifar(tmp_path / "cifar10")
    assert find_cifar(folder) == folder / "cifar-10-batches-py"
    assert [path.name for path in folder.iterdir()] == ["cifar-10-batches-py"]
    monkeypatch.setattr("torchvision.datasets.CIFAR10", None)  # what is there is not fetched again
    assert fetch_cifar(tmp_path / "cifar10") == folder


@pytest.mark.parametrize("error", [OSError("no route to host"), RuntimeError("File not found or corrupted.")])
def test_a_failed_fetch_is_one_clear_error(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_arguments: Any, **_options: Any) -> None:
        raise error

    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", fail)
    monkeypatch.setenv("SEGDECAY_CACHE", str(tmp_path / "cache"))
    _, said = _run(capsys, "cifar10", "--download", code=2)
    assert (
        f"CIFAR-10 cannot be downloaded from https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz: {error}" in said
    )
    assert "give --data FOLDER" in said


# --- comparing --------------------------------------------------------------------------------------------------------


def test_the_paired_interval_is_that_of_the_mean_of_differences() -> None:
    random = np.random.default_rng(0)
    one, other = (random.random(400) < 0.7).astype(float), (random.random(400) < 0.6).astype(float)
    found = paired_difference(one, other)
    assert found.mean == pytest.approx(one.mean() - other.mean())
    assert found.interval == pytest.approx(stats.ttest_rel(one, other).confidence_interval(0.95))


def test_equal_results_differ_by_nothing_and_a_class_without_images_has_no_share(told: tuple[Path, Path, str]) -> None:
    from segdecay.data import load_dataset

    dataset, _ = load_dataset(recipe_config(told[0], epochs=1, seed=0).data)
    same = tuple(index % 2 == 0 for index in range(30))
    found = compare(dataset, same, article.Article(same, same, "", ()))
    assert (found.rows[0].difference.mean, found.rows[0].difference.interval) == (0.0, (0.0, 0.0))
    assert (found.rows[0].right, found.reported, found.moved.mean) == (0.5, 0.5, 0.0)
    lone = paired_difference(np.array([]), np.array([]))
    assert (lone.mean, lone.interval) == (None, None)


def test_the_recipe_and_the_search_differ_in_nothing_but_decay(tmp_path: Path) -> None:
    one, other = (
        recipe_config(tmp_path, epochs=2, seed=1, search=search).model_dump(exclude={"decay", "search"})
        for search in (None, {"grid": [0, 1e-4], "folds": 3})
    )
    assert one == other
