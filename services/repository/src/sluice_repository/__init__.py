"""The repository: carries parts to the object store and answers for drives and nodes."""
