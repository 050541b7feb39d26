"""Keys that verify tokens, and the sources from which they come."""
