"""asyncio helpers that do no I/O."""
