"""Rates: token buckets of tenants and subjects."""
