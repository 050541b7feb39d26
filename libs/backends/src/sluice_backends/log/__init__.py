"""Event log in append-only files."""
