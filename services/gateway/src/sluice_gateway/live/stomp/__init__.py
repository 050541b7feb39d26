"""STOMP 1.2 over WebSockets, the server's side."""
