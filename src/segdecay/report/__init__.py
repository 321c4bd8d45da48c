"""The report: one self-contained page about a run, from its records and examples alone; needs no torch.

`build_report(run)` writes RUN/report.html, for a run or the folder of an evaluation; `score_svg(read_verdict(run))` is
the picture of score against strength. The package is also the function `segdecay.report(run)`, as the command.
"""

import sys
from pathlib import Path
from types import ModuleType

from segdecay.report.facts.read import read_verdict
from segdecay.report.figures.svg import score_svg
from segdecay.report.pages.evaluation import build_evaluation_report
from segdecay.report.pages.run import build_report


class _Callable(ModuleType):
    """A package that can be called: a function `segdecay.report` would be hidden by the package of its name."""

    def __call__(self, run: str | Path) -> Path:
        """Write RUN/report.html again from the records of the run, as `segdecay report`.

        Returns:
            The path of the page.

        Raises:
            RunError: RUN is not finished, or one of its files is missing or damaged.
        """
        return build_report(Path(run))


sys.modules[__name__].__class__ = _Callable

__all__ = ["build_evaluation_report", "build_report", "read_verdict", "score_svg"]
