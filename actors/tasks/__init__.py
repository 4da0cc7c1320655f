"""Durable tasks: distributed with options, processed by registered handlers, on queues that survive crashes."""
