"""Alembic environment of the catalogue; `migrate.py` runs it."""
