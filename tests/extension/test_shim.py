"""The library that is copied for each interpreter with clones."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path

import atoll

HEADER = Path(__file__).parents[2] / "src/core/clone/shim.h"


def test_symbols():
    """It has a function for each symbol that clones call it by: a missing one would be noticed when it is called."""
    text = HEADER.read_text().replace("\\\n", " ")
    macros = re.findall(
        r"^#define ATOLL_SHIM_(?:SYMBOLS|SIGNALS|OPTIONS|WAITS|PROCESSORS|STD_\w+)\s(.*)", text, re.MULTILINE
    )
    names = {name for macro in macros for name in re.findall(r'"(\w+)"', macro)}
    assert {"PyGILState_Ensure", "pthread_cond_wait", "sysconf", "sigaction", "optind"} < names
    shim = ctypes.CDLL(str(Path(atoll.__file__).with_name("_shim.so")))
    assert [name for name in sorted(names) if not hasattr(shim, f"atoll_{name}")] == []
