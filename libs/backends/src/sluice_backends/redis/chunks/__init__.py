"""Chunk store on Redis: staged and sealed bytes."""
