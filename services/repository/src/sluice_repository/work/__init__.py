"""Shared parts of the background roles: leases, heartbeats and retry loops."""
