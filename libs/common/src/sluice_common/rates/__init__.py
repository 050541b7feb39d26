"""Rate limits of callers: one limiter per process, on buckets that all replicas share."""
