"""Folds of cross-validation."""
