"""Who looks: the command line."""
