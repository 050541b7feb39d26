"""Values of the catalogue."""
