"""Figures of the report, as plotly figures and as SVG."""
