"""The mutator, which alone writes to the store, and the accessor, which reads from it."""
