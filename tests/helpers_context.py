"""Context variables of a module that interpreters can import."""

import contextvars

number: contextvars.ContextVar[object] = contextvars.ContextVar("number", default=0)
text: contextvars.ContextVar[object] = contextvars.ContextVar("text")
