"""The configuration schema of runs."""
