"""Coordination on Redis: chunk store, ledger and work queue of deployments beyond one machine."""
