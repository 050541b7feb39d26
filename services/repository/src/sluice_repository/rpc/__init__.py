"""The gRPC services of the repository."""
