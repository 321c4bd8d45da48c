"""The commands tune, compare and train from request to report."""
