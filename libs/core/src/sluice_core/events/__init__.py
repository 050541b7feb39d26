"""Lifecycle events: records, deterministic ids and their CloudEvents form."""
