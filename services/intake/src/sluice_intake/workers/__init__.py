"""Several intake processes on one port."""
