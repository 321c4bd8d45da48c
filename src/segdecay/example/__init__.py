"""Worked examples: a known recipe done right, as it is often written, and with its strength searched."""
