"""Redis client: connections, RESP, cluster slots, scripts. Independent of uploads."""
