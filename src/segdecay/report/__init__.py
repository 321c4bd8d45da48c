"""The report: one self-contained page about a run, from its records and examples alone; needs no torch.

`build_report(run)` writes RUN/report.html, for a run or the folder of an evaluation; `score_svg(read_verdict(run))` is
the picture of score against strength.
"""

from segdecay.report.evaluation_page import build_evaluation_report
from segdecay.report.page import build_report
from segdecay.report.picture import score_svg
from segdecay.report.reading import read_verdict

__all__ = ["build_evaluation_report", "build_report", "read_verdict", "score_svg"]
