"""One training: setup, loop, losses, checkpoint, scores, or the user's function."""
