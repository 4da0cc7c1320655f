"""The error log: what goes wrong in a system, as lines in a file and as notifications."""
