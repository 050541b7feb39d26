"""Embedded chunk store: chunk files and packs."""
