"""Where PyInstaller finds what it has to know of Atoll: it asks the entry point ``pyinstaller40``."""

from __future__ import annotations


def hook_dirs() -> list[str]:
    """Return the directories with hooks of PyInstaller's."""
    return list(__path__)
