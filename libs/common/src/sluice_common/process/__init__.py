"""Service process: command line, start, signals, memory, data directory."""
