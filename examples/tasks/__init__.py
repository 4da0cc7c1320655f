"""Durable tasks: the example's payload, distributor, handlers and tree."""
