"""Selectors replayed on recorded or simulated grids of cells, without training."""
