"""The repository service: part storage, completion, drives and nodes."""
