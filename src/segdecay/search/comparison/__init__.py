"""Comparison of regularizers at equal budget: arms, their trials, and the judgement."""
