"""Every Sluice service in one process, on embedded backends."""
