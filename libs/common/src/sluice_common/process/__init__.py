"""The life of a service process: command line, start, signals, memory, data directory."""
