"""The engine on Redis: asynq's queues, in its keys and its records, shared with Go processes."""
