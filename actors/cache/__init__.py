"""The cache actor and its backends."""
