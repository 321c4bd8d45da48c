"""Pages and schemas made from the code: this script writes them, tests/docs/test_made_pages.py holds them equal.

docs/commands.md is the command line's own help, docs/glossary.md the report's glossary, docs/tutorials/*.md the
notebooks beside them, src/segdecay/schemas/ the JSON Schemas of dataset.yaml and run.yaml.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import notebooks
from typer.models import ArgumentInfo, CommandInfo

from segdecay.cli.main import app
from segdecay.config.schema import CompareConfig
from segdecay.data.spec import DatasetSpec
from segdecay.report.text.glossary import PageNames, Word

ROOT = Path(__file__).resolve().parents[1]
SCHEMAS = "src/segdecay/schemas"
VALUES = {int: "N", float: "NUMBER", str: "TEXT", Path: "PATH"}  # of options that name none
COMMANDS_HEAD = """# Commands

`segdecay COMMAND --help` prints what stands here. Exit codes: 0 done; 1 problems found, or not trained enough to tell;
2 an error that says what to do; 130 interrupted, and the same command resumes. `--debug` shows the traceback of an
error.
"""
GLOSSARY_HEAD = """# Glossary

Each term in one or two sentences, as the reports explain them where they use them; in alphabetical order. The words of
the code, such as trial and bundle: [design.md](design.md#words).
"""


@dataclass(frozen=True)
class Parameter:
    """One argument or option of a command: `names` as typed, `value` as the help shows it, empty for a switch."""

    names: tuple[str, ...]
    value: str
    meaning: str
    is_argument: bool
    is_required: bool

    def row(self) -> str:
        """Its line of the table."""
        typed = [self.value] if self.is_argument else [f"{name} {self.value}".rstrip() for name in self.names]
        return f"| {', '.join(f'`{_in_table(one)}`' for one in typed)} | {_in_table(self.meaning)} |"


def parameters_of(command: Callable[..., Any]) -> list[Parameter]:
    """The parameters of a command, from the annotations of its function."""
    hints = get_type_hints(command, include_extras=True)
    found = []
    for name, parameter in inspect.signature(command).parameters.items():
        kind, info = get_args(hints[name])[:2]
        is_argument = isinstance(info, ArgumentInfo)
        value = "" if kind is bool else info.metavar or (name.upper() if is_argument else VALUES[_bare(kind)])
        if is_argument and get_origin(kind) is list:
            value += "..."
        stated = (info.default, *(info.param_decls or ()))  # in an annotation the first name stands at `default`
        names = tuple(one for one in stated if isinstance(one, str) and one.startswith("--"))
        is_required = parameter.default is inspect.Parameter.empty
        found.append(Parameter(names, value, info.help or "", is_argument, is_required))
    return found


def _bare(kind: Any) -> Any:
    """The type in `list[X]`, `X | None` or `X`."""
    inner = [one for one in get_args(kind) if one is not type(None)]
    return _bare(inner[0]) if inner else kind


def commands_page() -> str:
    """Markdown of all commands, in the order of `segdecay --help`."""
    commands = [(one.name or "", one) for one in app.registered_commands]
    lines = [COMMANDS_HEAD, "| command | purpose |", "|---|---|"]
    lines += [f"| [`{name}`](#segdecay-{name}) | {_in_table(_paragraphs(one)[0])} |" for name, one in commands]
    return "\n".join([*lines, "", *(_section(name, one) for name, one in commands)]).rstrip() + "\n"


def _paragraphs(command: CommandInfo) -> list[str]:
    """The paragraphs of a command's help, each in one line."""
    return [" ".join(one.split()) for one in (inspect.getdoc(command.callback) or "").split("\n\n")]


def _section(name: str, command: CommandInfo) -> str:
    assert command.callback is not None  # noqa: S101  (every registered command has a function)
    parameters = parameters_of(command.callback)
    arguments = [one.value if one.is_required else f"[{one.value}]" for one in parameters if one.is_argument]
    lines = [f"## segdecay {name}", "", "\n\n".join(_paragraphs(command)), ""]
    lines += ["```", " ".join(["segdecay", name, *arguments, "[OPTIONS]"]), "```", ""]
    lines += ["| argument or option | meaning |", "|---|---|", *(one.row() for one in parameters)]
    if command.epilog:
        lines += ["", re.sub(r"^(Examples?:) (.*)$", r"\1 `\2`", " ".join(command.epilog.split()))]
    return "\n".join([*lines, ""])


def _in_table(text: str) -> str:
    return text.replace("|", "\\|")


def glossary_page() -> str:
    """Markdown of every term of the reports, for masks and for labels of images."""
    words: dict[str, Word] = {}
    for names in (PageNames(), PageNames("classification")):
        for word in names.glossary():
            words.setdefault(word.term, word)
    ordered = sorted(words.values(), key=lambda word: word.term.casefold())
    return "\n".join([GLOSSARY_HEAD, *(f"- **{word.term}**: {word.meaning}" for word in ordered), ""])


def dataset_schema() -> str:
    """The JSON Schema of dataset.yaml."""
    return _schema(DatasetSpec.model_json_schema(), "dataset.yaml", "The keys of dataset.yaml.")


def run_schema() -> str:
    """The JSON Schema of run.yaml and of --config: a run or a comparison, and the command that wrote the file."""
    made = CompareConfig.model_json_schema()
    made["properties"]["command"] = {"type": "string", "description": "the command that wrote this file; not read"}
    return _schema(made, "run.yaml", "The keys of a run.")


def _schema(made: dict[str, Any], title: str, description: str) -> str:
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": title, "description": description}
    return json.dumps({**made, **head}, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


PAGES: dict[str, Callable[[], str]] = {
    "docs/commands.md": commands_page,
    "docs/glossary.md": glossary_page,
    f"{SCHEMAS}/dataset.schema.json": dataset_schema,
    f"{SCHEMAS}/run.schema.json": run_schema,
    **{
        path.with_suffix(".md").relative_to(ROOT).as_posix(): partial(notebooks.page_of, path)
        for path in notebooks.notebooks()
    },
}


def main() -> None:
    """Write every page."""
    for name, made in PAGES.items():
        (ROOT / name).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / name).write_text(made(), encoding="utf-8")
        print(name)


if __name__ == "__main__":
    main()
