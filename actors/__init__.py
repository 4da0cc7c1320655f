"""Who acts: actors, their mailboxes, refs, futures, timers and dispatchers."""
