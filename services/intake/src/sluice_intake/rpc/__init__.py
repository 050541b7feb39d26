"""The gRPC layer of IntakeService."""
