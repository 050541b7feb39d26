"""Shared by the Sluice services: errors, settings, telemetry, the pure core, ports and adapters."""
