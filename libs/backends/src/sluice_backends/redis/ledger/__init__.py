"""The ledger: one Lua script for each step."""
