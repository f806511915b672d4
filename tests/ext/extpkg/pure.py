"""Imports a submodule that is an extension, relatively."""

from . import _runpath as helped

__all__ = ["helped"]
