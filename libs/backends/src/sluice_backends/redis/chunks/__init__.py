"""The chunk store: staged and sealed bytes."""
