"""Domain of an upload: states, plan, checksums, names, ids."""
