"""One node: read, examine, make thumbnails, record the result."""
