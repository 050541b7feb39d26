"""Live updates on Redis: a bounded log for each user, and wake-ups by pub/sub."""
