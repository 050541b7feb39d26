"""Capacity model: how many pods, shards, partitions and prefixes a load needs.

python -m bench.capacity
"""
