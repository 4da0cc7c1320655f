"""The test kit: simulated dispatch, probe actors and pytest fixtures."""
