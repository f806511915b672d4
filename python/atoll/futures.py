"""Pools of interpreters behind the interface of :mod:`concurrent.futures`."""

from ._pool import BrokenInterpreterPool, Future, InterpreterPoolExecutor

__all__ = ["BrokenInterpreterPool", "Future", "InterpreterPoolExecutor"]
