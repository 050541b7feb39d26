"""Openers of the backends that the settings name; unusable ones raise `ConfigurationError`."""

# Vendor clients are imported where they are opened, so that a process only loads those that it
# uses: botocore alone takes tens of megabytes.
