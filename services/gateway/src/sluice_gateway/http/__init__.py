"""HTTP chassis: the server, and what surrounds every request."""
