"""The report of a run: a table for people, JSON for programs, plots, and one page with all of it.

The JSON document is the only thing that is kept of a run; table, plots, page and docs/phases.md are
made from it, so that no figure is ever copied by hand.
"""
