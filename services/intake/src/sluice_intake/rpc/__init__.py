"""IntakeService on the wire."""
