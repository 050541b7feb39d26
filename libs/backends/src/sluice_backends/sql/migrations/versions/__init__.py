"""Migrations, one module per schema change.

A release only adds. The next release removes what is unused, so two releases can run together.
"""
