"""Scores, bootstrap, intervals and multiple testing."""
