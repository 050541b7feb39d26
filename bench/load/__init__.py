"""Load generators: each runs in a separate process and prints one line of JSON."""
