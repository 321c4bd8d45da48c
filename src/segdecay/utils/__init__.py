"""Files, YAML, threads and entry points, for all other packages."""
