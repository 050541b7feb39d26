"""Dashboards, recording rules and alerts as code. See docs/slo.md and docs/runbooks/README.md."""
