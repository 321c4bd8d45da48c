"""Checks of files, labels and duplicates."""
