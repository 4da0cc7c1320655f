"""The lock: leases with fencing tokens, handed out in the order in which they were asked for."""
