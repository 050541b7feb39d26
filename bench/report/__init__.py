"""Report of a run: text table, JSON, plots, and one page with all of it; all made from the JSON."""
