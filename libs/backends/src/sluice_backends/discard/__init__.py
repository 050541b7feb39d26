"""Backends that discard all data, for measuring the layers above them."""
