"""The chunk store: chunk files and packs."""
