"""What survives: calls through Taximeter while its processes, its database or its clients fail."""
