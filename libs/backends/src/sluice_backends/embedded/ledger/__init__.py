"""The ledger in SQLite, on a thread of its own."""
