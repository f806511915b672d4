"""What a process does: its interpreters, pools and queues, as numbers and as text."""
