"""The work queue: priority lanes on Redis Streams."""
