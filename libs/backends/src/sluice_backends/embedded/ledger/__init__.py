"""Embedded ledger in SQLite, on a dedicated thread."""
