"""What Sluice is, without any I/O: states, rules, ports and the values that they exchange."""
