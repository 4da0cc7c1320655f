"""The broker: publishing and consuming, and the notification pipeline between them."""
