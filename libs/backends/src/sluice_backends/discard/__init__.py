"""Backends that keep nothing, to measure the layers above them."""
