"""Selectors replayed on recorded or simulated grids of trials, without training."""
