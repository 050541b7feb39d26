"""The processor: turns finished photos into thumbnails and facts, without endangering the rest.

Imports nothing here: the decoder children start with this package, and want to start fast.
"""
