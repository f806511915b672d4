"""Pools of interpreters behind the interface of :mod:`concurrent.futures`."""

from ._pool.executor import BrokenInterpreterPool, Future, InterpreterPoolExecutor

__all__ = ["BrokenInterpreterPool", "Future", "InterpreterPoolExecutor"]
