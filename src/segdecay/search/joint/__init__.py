"""Joint search: the strength together with the learning rate and other values."""
