"""Events in append-only files of one machine."""
