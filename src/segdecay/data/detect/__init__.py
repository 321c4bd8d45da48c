"""Guesses of `segdecay init` about a folder."""
