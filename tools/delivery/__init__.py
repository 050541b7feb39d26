"""Releases to a Kubernetes cluster: verify, deploy, watch, roll back (docs/delivery.md)."""
