"""Photos: commands and queries."""
