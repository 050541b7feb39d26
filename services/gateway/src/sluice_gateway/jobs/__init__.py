"""Upload jobs: commands and queries."""
