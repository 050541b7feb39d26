"""Token buckets on Redis."""
