"""The cache: values and bounded lists that are forgotten in time."""
