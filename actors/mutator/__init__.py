"""The mutator actor, which alone writes to the store, and its backends."""
