"""Caller identity."""
