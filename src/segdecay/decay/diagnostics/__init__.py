"""Diagnostics of the effect of decay."""
