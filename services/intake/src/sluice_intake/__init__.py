"""The intake: takes chunks and acknowledges them."""
