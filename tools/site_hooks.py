"""Hooks of `make docs`: pages of the site that lie outside docs/, and links to files of the repository.

README.zh-CN.md, CHANGELOG.md and others are pages of the site under the names in `OUTSIDE`. A link to another file of
the repository becomes its path, since no address of the repository is known here; a link to a file that does not exist
is a warning, which the strict build makes an error.
"""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path, PurePosixPath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
OUTSIDE = {  # file of the repository: page of the site
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "README.md": "index.md",
    "README.zh-CN.md": "zh/readme.md",
}
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s#]+)(#[^()\s]*)?\)")
log = logging.getLogger("mkdocs.plugins.segdecay")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that lie outside docs/."""
    for source, target in OUTSIDE.items():
        if source != "README.md":
            files.append(File.generated(config, target, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Turn links that leave docs/ into links of the site, or into paths."""
    sources = {target: source for source, target in OUTSIDE.items() if source != "README.md"}
    source = sources.get(page.file.src_uri, f"docs/{page.file.src_uri}")

    def of_site(found: re.Match[str]) -> str:
        return link_of_site(found, source, page.file.src_uri)

    parts = re.split(r"(^```.*?^```)", markdown, flags=re.MULTILINE | re.DOTALL)
    return "".join(part if part.startswith("```") else LINK.sub(of_site, part) for part in parts)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:  # noqa: ARG001
    """Give the theme's search dialog a name, as readers of the screen need."""
    return output.replace(
        'data-md-component="search" role="dialog"', 'data-md-component="search" role="dialog" aria-label="Search"'
    )


def link_of_site(found: re.Match[str], source: str, page: str) -> str:
    """One link of a file of the repository, as the page of the site has it."""
    picture, text, target, anchor = found[1], found[2], found[3], found[4] or ""
    if re.match(r"[a-z]+:", target):
        return found[0]
    place = os.path.normpath(PurePosixPath(source).parent / target)
    if not (ROOT / place).exists():
        log.warning("%s links to %s, which does not exist", source, place)
        return found[0]
    here = PurePosixPath(page).parent
    if place in OUTSIDE:
        return f"{picture}[{text}]({os.path.relpath(OUTSIDE[place], here)}{anchor})"
    if (ROOT / place).is_file() and place.startswith("docs/"):
        return f"{picture}[{text}]({os.path.relpath(place.removeprefix('docs/'), here)}{anchor})"
    return text if place in text else f"{text} (`{place}`)"
