"""Ledger on Redis: one Lua script per step."""
