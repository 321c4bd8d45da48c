"""The HTML pages of runs, comparisons and evaluations."""
