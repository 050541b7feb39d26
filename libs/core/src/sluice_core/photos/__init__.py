"""Photos and the jobs that upload them: states, counts, progress, names. Pure."""
