"""A package with extension modules, a library folder beside it, and data."""
