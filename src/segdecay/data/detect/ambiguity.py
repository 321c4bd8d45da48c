"""Results of `init`: guessed keys with their reasons, and a question where the data have several readings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml


@dataclass(frozen=True)
class Idea:
    """One guessed key of dataset.yaml, or a remark (key None)."""

    key: str | None
    value: Any
    why: str


@dataclass(frozen=True)
class Answer:
    """One answer to a question: what it means, and the lines of dataset.yaml (or the step) that say it."""

    meaning: str
    lines: str


class Question(Exception):  # noqa: N818  (no error: a choice that only the user can make)
    """The data have several readings.

    >>> print(Question("Which folder holds masks?", [Answer("b does", "masks: b")]))
    Which folder holds masks?
    - b does:
        masks: b
    """

    def __init__(self, text: str, answers: Sequence[Answer]) -> None:
        self.text, self.answers = text, tuple(answers)
        lines = [text]
        for answer in answers:
            lines += [f"- {answer.meaning}:", *(f"    {line}" for line in answer.lines.splitlines())]
        super().__init__("\n".join(lines))


def lines_of_ideas(ideas: Sequence[Idea]) -> str:
    """Lines of dataset.yaml for all keys of these ideas; remarks are left out.

    >>> lines_of_ideas([Idea("layout", "coco", "a JSON"), Idea(None, None, "a remark")])
    'layout: coco'
    """
    return lines_of(**{idea.key: idea.value for idea in ideas if idea.key is not None})


def lines_of(**keys: Any) -> str:
    r"""Lines of dataset.yaml.

    >>> lines_of(masks="gt", values={0: "a"})
    'masks: gt\nvalues:\n  0: a'
    """
    text: str = yaml.safe_dump(keys, sort_keys=False, allow_unicode=True)
    return text.rstrip()
