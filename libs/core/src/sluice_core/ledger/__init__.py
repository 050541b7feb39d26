"""Ledger rules: synchronous functions over a small storage interface, shared by the memory and
SQLite ledgers. Rule numbers are of docs/protocol.md.
"""
