"""The throughput gates: what each layer costs, as a ratio to something measured in the same run."""
