"""TLS: certificates from files that rotate, credentials of servers, names of peers."""
