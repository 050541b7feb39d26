"""The Sluice SDK."""
