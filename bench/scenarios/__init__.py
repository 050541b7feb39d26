"""One module per gate: what is run, alternated and measured."""
