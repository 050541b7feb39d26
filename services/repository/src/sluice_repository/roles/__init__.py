"""The background roles: parts, completer, sweeper, relay, verifier."""
