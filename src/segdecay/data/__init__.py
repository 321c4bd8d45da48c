"""Read, check, split, cache and augment images with their masks or labels."""

from segdecay.data.dataset import IGNORE, Dataset, Item, open_dataset
from segdecay.data.loading import load_dataset, task_of

__all__ = ["IGNORE", "Dataset", "Item", "load_dataset", "open_dataset", "task_of"]
