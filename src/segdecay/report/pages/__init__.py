"""The HTML pages of runs, comparisons, evaluations and the worked example."""
