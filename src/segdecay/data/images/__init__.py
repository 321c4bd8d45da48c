"""Decoding of images and masks."""
