"""The catalogue of drives and nodes over one SQL schema."""
