"""Downloads: reading nodes into local files."""
