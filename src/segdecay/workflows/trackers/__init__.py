"""Experiment trackers: TensorBoard and MLflow, filled from the records of a run."""
