"""The durable record of drives and nodes: the port, and its SQL adapter over one schema."""
