"""Audit of a model, an optimizer and a loss."""
