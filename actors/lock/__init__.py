"""The lock actor and its backends."""
