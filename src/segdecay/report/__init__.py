"""The report: one self-contained page about a run, from its records and examples alone; needs no torch.

`build_report(run)` writes RUN/report.html, for a run or the folder of an evaluation; `score_svg(read_verdict(run))` is
the picture of score against strength.
"""

from segdecay.report.facts.read import read_verdict
from segdecay.report.figures.svg import score_svg
from segdecay.report.pages.evaluation import build_evaluation_report
from segdecay.report.pages.run import build_report

__all__ = ["build_evaluation_report", "build_report", "read_verdict", "score_svg"]
