"""What the background roles share: leases, heartbeats, retry loops."""
