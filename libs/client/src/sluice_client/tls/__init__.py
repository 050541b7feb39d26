"""TLS of the client: files, credentials that follow them, and clear errors."""
