"""Records of runs, their folder and its lock."""
