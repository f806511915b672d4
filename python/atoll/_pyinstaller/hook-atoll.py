"""What PyInstaller puts into a program that imports Atoll.

PyInstaller keeps the modules of a program in an archive, which only the main interpreter can read: its bootloader gives
that one an importer, before the program begins. So here they are files, as with its option ``--debug noarchive``, which
every interpreter finds on the ``sys.path`` that it has from main.
"""

from __future__ import annotations

import logging
from typing import Any

from PyInstaller.utils.hooks import collect_submodules  # type: ignore[import-untyped]

hiddenimports: list[str] = collect_submodules("atoll")  # C imports them, and interpreters do


def hook(hook_api: Any) -> None:
    """Have modules collected as files: PyInstaller calls this before it decides where each of them goes."""
    if not hook_api.analysis.noarchive:
        logging.getLogger(__name__).info(
            "atoll: modules become files, not an archive: interpreters are to find them"
        )
        hook_api.analysis.noarchive = True
