"""The Redis client: connections, RESP, cluster slots, scripts. Knows nothing of uploads."""
