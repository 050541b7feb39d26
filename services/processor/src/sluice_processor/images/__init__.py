"""The image core: from bytes to facts and thumbnails. Knows nothing of nodes."""
