"""Trained models: bundles, prediction, evaluation."""
