"""Log-ins at a gateway, which are stored on this machine."""
