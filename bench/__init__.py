"""Throughput gates: the cost of each layer, as a ratio to a peer measured in the same run."""
