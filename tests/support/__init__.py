"""Shared test support: real servers as separate processes, fakes, fault proxies and an oracle."""
