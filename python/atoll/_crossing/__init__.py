"""What crosses by value, as far as it is Python: classes, modules, and what pickle has no good word for.

For src/py/codec.
"""
