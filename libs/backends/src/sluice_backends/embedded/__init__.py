"""Coordination of one machine, in files and SQLite."""
