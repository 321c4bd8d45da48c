"""All pages: their openings, links, commands and code; and every code of a check has its line."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import pytest
import typer.main
from markdown_blocks import FENCED, anchors_of, blocks_of, prose_of
from paths import ROOT

import segdecay.cli.main as cli
from segdecay.workflows.request import build_config

DOCS = ROOT / "docs"
PAGES = sorted(
    [*DOCS.rglob("*.md"), *(ROOT / name for name in ("README.md", "README.zh-CN.md", "CONTRIBUTING.md", "SECURITY.md"))]
)
OPENED = [
    path for path in PAGES if path.name != "log.md" and path.parent.name not in {"results", "selection", "digits"}
]
RAN_ELSEWHERE = {
    "prediction.md",  # by tests of their own
    *("README.md", "README.zh-CN.md", "start.md", "decay.md", "deploy.md", "lightning.md", "transformers.md"),
    *("integrations.md", "python.md", "regularizers.md", "strength.md"),
    *(path.name for path in (DOCS / "tutorials").glob("*.md")),
}
SHOWN = {"audit.md", "diagnostics.md", "losses.md", "sources.md", "verdict.md"}  # excerpts, with names from around them


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


# --- openings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", OPENED, ids=name_of)
def test_a_page_answers_in_its_first_three_lines(path: Path) -> None:
    """The title, then one paragraph of at most three lines that ends with a sentence."""
    title, blank, *lines = text_of(path).splitlines()
    assert title.startswith("# ")
    assert blank == ""
    if lines[0].startswith("["):  # the other language
        lines = lines[2:]
    opening = lines[: lines.index("")]
    assert 1 <= len(opening) <= 3
    assert opening[-1].rstrip("*").endswith((".", "。", ":"))


# --- links ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_links_of_a_page_exist(path: Path) -> None:
    page = prose_of(text_of(path))
    broken = []
    for target, anchor in re.findall(r"\]\(([^()\s#]*)(?:#([^()\s]*))?\)", page):
        if re.match(r"[a-z]+:", target):
            continue
        place = (path.parent / target).resolve() if target else path
        if not place.exists() or (anchor and anchor not in anchors_of(text_of(place))):
            broken.append(f"{target}#{anchor}")
    assert broken == []


def test_every_page_is_in_the_navigation() -> None:
    named = set(re.findall(r": ([\w/.-]+\.md)$", text_of(ROOT / "mkdocs.yml"), flags=re.MULTILINE))
    assert {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")} <= named


@pytest.mark.parametrize("path", sorted((DOCS / "how-to").glob("*.md")), ids=name_of)
def test_the_readme_and_the_first_page_lead_to_every_task(path: Path) -> None:
    assert f"(how-to/{path.name})" in text_of(DOCS / "index.md")
    if path.name not in {"editor.md", "find-mistakes.md"}:
        assert f"(docs/how-to/{path.name})" in text_of(ROOT / "README.md")


# --- commands ---------------------------------------------------------------------------------------------------------


def commands_of(page: str) -> list[str]:
    """The command lines of `segdecay` in a page's blocks of shell."""
    found = []
    for language, content in FENCED.findall(page):
        if language in {"", "sh", "console"}:
            joined = content.replace("\\\n", " ")
            found += re.findall(r"^(?:\$ |srun |exec )?segdecay ([a-z].*)$", joined, flags=re.MULTILINE)
    return found


COMMANDS = [
    (name_of(path), line) for path in PAGES if path.name != "commands.md" for line in commands_of(text_of(path))
]
EXAMPLES = re.findall(r"^Example: `segdecay (.*)`$", text_of(DOCS / "commands.md"), flags=re.MULTILINE)


def parsed(line: str) -> dict[str, object]:
    """The parameters of a command line; raises where an option or a value is not allowed."""
    name, *arguments = shlex.split(line, comments=True)
    command = typer.main.get_command(cli.app).commands[name]  # type: ignore[attr-defined]
    found: dict[str, object] = command.make_context(name, arguments).params
    return found


def test_there_are_commands_on_many_pages() -> None:
    assert len(COMMANDS) > 70
    assert len({page for page, _ in COMMANDS}) > 20
    assert len(EXAMPLES) >= 14


@pytest.mark.parametrize("line", dict.fromkeys([*(line for _, line in COMMANDS), *EXAMPLES]))
def test_a_command_on_a_page_has_only_options_and_keys_that_exist(line: str) -> None:
    options = parsed(line)
    if line.split(maxsplit=1)[0] in {"tune", "train", "check", "lr"} and "compare." not in line:
        build_config("x", None, options.get("assignments"), {})  # type: ignore[arg-type]


@pytest.mark.parametrize("line", ["tune x --epoch 3", "tune x --folds many", "predict runs/a"])
def test_a_wrong_command_would_be_seen(line: str) -> None:
    with pytest.raises(Exception, match=r"--epoch|valid integer|IMAGES|Missing"):
        parsed(line)


# --- code -------------------------------------------------------------------------------------------------------------


RUN_HERE = [
    (name_of(path), number)
    for path in PAGES
    if path.name not in SHOWN
    for number in range(len(blocks_of(text_of(path), "python")))
    if path.name not in RAN_ELSEWHERE
]


@pytest.mark.parametrize(("name", "number"), RUN_HERE)
def test_code_of_a_page_runs(
    name: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "digits").symlink_to(DOCS / "records" / "digits")
    code = blocks_of(text_of(ROOT / name), "python")[number]
    exec(compile(code, name, "exec"), {"__name__": "__main__"})  # noqa: S102  (the page's own code)
    said = capsys.readouterr().out
    if "print(" in code:
        assert said.strip()
    if name == "docs/zh/cifar10.md" and "audit" in code:
        told = dict(line.split()[::-1] for line in said.splitlines())
        listed = re.findall(r"^\| `(\w+)` \|", text_of(ROOT / name), flags=re.MULTILINE)
        assert listed == [one for one in listed if one in told]
        assert {code for code, level in told.items() if level == "wrong"} <= set(listed)


def test_the_dataset_of_its_page_becomes_a_folder_that_segdecay_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from segdecay.config.schema import DataConfig
    from segdecay.data import load_dataset

    monkeypatch.chdir(tmp_path)
    (code,) = blocks_of(text_of(DOCS / "how-to" / "own-dataset.md"), "python")
    exec(compile(code, "own-dataset.md", "exec"), {"__name__": "__main__"})  # noqa: S102  (the page's own code)
    dataset, report = load_dataset(DataConfig(path="squares"), cache=tmp_path / "cache")
    assert report.of_level("wrong") == ()
    assert dataset.classes == ("background", "square")
    assert len(dataset.items) == 12


@pytest.mark.parametrize("path", [path for path in PAGES if path.name in SHOWN], ids=name_of)
def test_code_that_is_only_shown_is_python(path: Path) -> None:
    for code in blocks_of(text_of(path), "python"):
        ast.parse(code)


# --- codes ------------------------------------------------------------------------------------------------------------


PLACE_OF_CODE = {"Finding": 1, "Fault": 1, "fault": 1, "finding": 1, "UnusableError": 0, "ShapeError": 1, "Caution": 0}
PASSED_ON = {"code", "error.code", "finding.code"}  # what another call names
MADE = {  # codes that an expression makes
    "f'{key}_unseen'": {"values_unseen", "colors_unseen"},
    "f'rate_{found.rate}'": {"rate_high", "rate_low"},
    "'few_images' if unit == 'images' else 'few_groups'": {"few_images", "few_groups"},
}
OF_DUPLICATES = {"duplicate_parts", "duplicate_groups", "near_duplicate_parts", "near_duplicate_groups"}


def codes_in(*places: str) -> set[str]:
    """The codes that calls in these files of src/segdecay name."""
    found: set[str] = set()
    files = [path for place in places for path in (ROOT / "src" / "segdecay").glob(place)]
    for call in (node for path in files for node in ast.walk(ast.parse(text_of(path))) if isinstance(node, ast.Call)):
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        if name in PLACE_OF_CODE and len(call.args) > PLACE_OF_CODE[name]:
            code = call.args[PLACE_OF_CODE[name]]
            if isinstance(code, ast.Constant):
                found.add(str(code.value))
            elif ast.unparse(code) not in PASSED_ON:
                found |= MADE[ast.unparse(code)]
    return found


def listed_codes(page: str) -> list[str]:
    """The codes in the first column of a page's tables."""
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|", text_of(DOCS / page), flags=re.MULTILINE)
    return [code for row in rows for code in re.findall(r"`(\w+)`", row)]


def test_every_code_of_a_check_has_its_one_line_and_no_other_has() -> None:
    listed = listed_codes("faq.md")
    assert len(listed) == len(set(listed))
    checks = codes_in("data/**/*.py", "workflows/check.py") | OF_DUPLICATES | {"shape_unusable"}
    assert set(listed) == checks


def test_every_caution_has_its_line() -> None:
    assert codes_in("search/cautions.py") - set(listed_codes("verdict.md")) == set()
    assert len(codes_in("search/cautions.py")) > 12


def test_duplicates_have_the_codes_that_are_listed() -> None:
    code = text_of(ROOT / "src" / "segdecay" / "data" / "checks" / "duplicates.py")
    assert set(re.findall(r'"(\w*duplicate_\w+)"', code)) == OF_DUPLICATES
