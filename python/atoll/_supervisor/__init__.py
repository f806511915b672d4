"""Supervision: functions that run for long, each in an interpreter of its own, and are started again when they end."""
