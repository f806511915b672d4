"""What the copy and pickle modules have to know of frozen dicts before CPython 3.15, which has frozendict.

They are mapping proxies there, which both modules refuse.  Imported in each interpreter that has frozen dicts; what
it says holds for every mapping proxy, unless the program has said something else.  Others cross as they always do.
"""

from __future__ import annotations

import copyreg
import types
from typing import Any

from atoll._atoll import is_frozen

from .byvalue import rebuild_proxy, reduce_proxy


def _reduce(proxy: types.MappingProxyType[Any, Any]) -> tuple[Any, ...]:
    return (rebuild_proxy, (dict(proxy),)) if is_frozen(proxy) else reduce_proxy(proxy)


if types.MappingProxyType not in copyreg.dispatch_table:
    copyreg.pickle(types.MappingProxyType, _reduce)
