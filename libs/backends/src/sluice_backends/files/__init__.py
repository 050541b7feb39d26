"""Object store in a directory tree."""
