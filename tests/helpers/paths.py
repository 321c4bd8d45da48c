"""The root of the project, for tests that read its pages, records and scripts."""

from pathlib import Path

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent
