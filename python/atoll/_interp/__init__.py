"""What interpreters need of Python: signals, threads, forks, scripts, exceptions as text.

For src/py/interp.
"""
