"""Embedded object listener: serves the presigned URLs of a store in files."""
