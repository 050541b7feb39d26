"""Users, upload jobs, photos, tags and repeatable requests in SQL."""
