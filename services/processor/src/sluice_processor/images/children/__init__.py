"""Decoder processes: the pool, their protocol and their confinement."""
