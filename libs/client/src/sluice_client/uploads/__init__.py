"""Uploads: from a source to a visible node."""
