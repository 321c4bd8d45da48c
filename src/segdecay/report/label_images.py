"""Images of a run's examples/ with their labels, as data URIs. Knows nothing of verdicts or pages."""

from __future__ import annotations

from dataclasses import dataclass

from segdecay.report.facts import LabelExample, Run
from segdecay.report.images import image_uri, open_example

SIDE = 160  # px, longer side of an embedded image


@dataclass(frozen=True)
class LabelSheet:
    """One image, ready for the page."""

    example: LabelExample
    image: str
    width: int
    height: int


def read_label_sheets(run: Run) -> tuple[LabelSheet, ...]:
    """All examples of a run whose images have one label; none for masks.

    Raises:
        RunError: a file is missing, no image, or lies elsewhere.
    """
    sheets = []
    for example in run.examples.labels:
        picture = open_example(run.folder / "examples", example.image).convert("RGB")
        sheets.append(LabelSheet(example, image_uri(picture, SIDE), *picture.size))
    return tuple(sheets)
