"""The intake: receives chunks and acknowledges them."""
