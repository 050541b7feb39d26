"""The gateway: serves browsers and phones."""
