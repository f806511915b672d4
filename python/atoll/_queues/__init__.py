"""What queues need of Python."""
