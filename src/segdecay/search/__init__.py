"""Search of the strength by cross-validation: race, verdict, joint search, comparison."""
