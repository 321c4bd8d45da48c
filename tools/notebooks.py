"""The notebooks of docs/tutorials: run without Jupyter, and as Markdown pages with their outputs.

    python tools/notebooks.py        runs every notebook in a temporary folder and keeps what its cells print

A cell's output is what it prints, then the last expression as text, as in a notebook. The pages are made by
tools/pages.py; tests/docs/test_tutorials.py runs every notebook.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import os
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "tutorials"
HIDDEN = "# hidden"  # first line of a cell that the page leaves out


def notebooks() -> list[Path]:
    """Every notebook, in the order of the names."""
    return sorted(FOLDER.glob("*.ipynb"))


def cells_of(path: Path) -> list[dict[str, Any]]:
    """The cells of a notebook."""
    found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return found


def run(path: Path) -> list[str]:
    """Run the code cells of a notebook one after the other, in the current folder; what each prints."""
    names: dict[str, Any] = {"__name__": "__main__"}
    return [_run_cell(_source(cell), names, path.name) for cell in cells_of(path) if cell["cell_type"] == "code"]


def _run_cell(source: str, names: dict[str, Any], file: str) -> str:
    body = ast.parse(source).body
    last = body.pop() if body and isinstance(body[-1], ast.Expr) else None
    with contextlib.redirect_stdout(io.StringIO()) as said:
        exec(compile(ast.Module(body, []), file, "exec"), names)  # noqa: S102 - our own notebook
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), file, "eval"), names)  # noqa: S307 - our own notebook
            if value is not None:
                print(repr(value))
    return said.getvalue()


def _source(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def keep_outputs(path: Path, outputs: list[str]) -> None:
    """Write what the cells printed into the notebook."""
    whole = json.loads(path.read_text(encoding="utf-8"))
    code = [cell for cell in whole["cells"] if cell["cell_type"] == "code"]
    for number, (cell, said) in enumerate(zip(code, outputs, strict=True), start=1):
        text = {"name": "stdout", "output_type": "stream", "text": said.splitlines(keepends=True)}
        cell |= {"execution_count": number, "outputs": [text] if said else []}
    path.write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def page_of(path: Path) -> str:
    """A notebook as Markdown: its texts, its code, and what each cell printed when it was last run."""
    parts = []
    for cell in cells_of(path):
        if cell["cell_type"] == "markdown":
            parts.append(_source(cell))
            continue
        if not _source(cell).startswith(HIDDEN):
            parts.append(f"```python\n{_source(cell)}\n```")
        said = "".join(line for output in cell["outputs"] for line in output["text"]).rstrip()
        if said:
            parts.append(f"```text\n{said}\n```")
    parts.append(f"The notebook itself: [{path.name}]({path.name}).")
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Run every notebook and keep its outputs."""
    for path in notebooks():
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            os.environ["SEGDECAY_CACHE"] = f"{folder}/cache"
            keep_outputs(path, run(path))
        print(path.name)


if __name__ == "__main__":
    main()
