"""The catalogue of drives and nodes on a SQL database."""
