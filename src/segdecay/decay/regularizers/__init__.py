"""The regularizers and their registry."""
