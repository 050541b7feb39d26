"""Projection of upload and node events onto photos and jobs."""
