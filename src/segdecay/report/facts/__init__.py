"""Records of a run, prepared for pages."""
