"""Catalogue values."""
