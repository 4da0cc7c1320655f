"""The broker on RabbitMQ: one thread of its own, one connection to publish and one to consume, over pika."""
