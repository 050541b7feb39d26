"""The images of Sluice: built, put together, and looked at. docs/services.md has the details."""
