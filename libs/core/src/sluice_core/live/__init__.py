"""Live updates of photos and jobs: their model, their log, and the rules of both."""
