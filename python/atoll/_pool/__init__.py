"""The executor, its futures and maps: what the submitting interpreter does."""
