"""Extension modules, as far as it is Python: what is built in, what keeps one state for the process, which are loaded.

For src/py/extension.
"""
