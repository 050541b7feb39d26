"""Live updates for browsers and phones: who may hear what, by STOMP and by server-sent events."""
