"""Who watches: child specs, strategies, supervisors and the actor system."""
