"""Peers that Sluice is measured against, in the same run on the same bytes."""
