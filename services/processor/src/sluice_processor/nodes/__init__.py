"""Processing of one node: read, examine, make thumbnails, record the result."""
