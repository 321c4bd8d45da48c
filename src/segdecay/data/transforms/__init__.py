"""Crops, augmentation and copy-paste."""
