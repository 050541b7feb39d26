"""Accounts: registration, log-in, and the tokens and keys that prove who calls."""
