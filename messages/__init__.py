"""What is said: messages, their codec, the errors and their catalogue."""
