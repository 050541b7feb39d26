"""The path of a chunk: admission, reception, acceptance."""
