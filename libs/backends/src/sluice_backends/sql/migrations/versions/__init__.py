"""One module per change of the schema. A release only adds; what it no longer needs goes one
release later, so that two releases can run side by side."""
