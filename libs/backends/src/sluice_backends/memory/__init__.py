"""Coordination in the memory of one process."""
