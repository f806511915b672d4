"""What each worker of a pool may take."""

from __future__ import annotations

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TypedDict

    class Limits(TypedDict, total=False):
        """The limits that ``create()`` has."""

        memory_limit: int | None
        cpu_limit: float | None


NAMES = ("memory_limit", "cpu_limit")


def check_limits(limits: Limits | Mapping[str, object] | None) -> Limits:
    """Return *limits* as keywords, their numbers as they are.

    Raises TypeError for what is no mapping, ValueError for a limit that there is not.
    """
    if limits is None:
        return {}
    try:
        found = dict(limits)
    except (TypeError, ValueError):
        raise TypeError(
            f"worker_limits must be a mapping such as {{'memory_limit': bytes}}, not {limits!r}"
        ) from None
    for name in found:
        if name not in NAMES:
            raise ValueError(f"worker_limits: {name!r} is none of {', '.join(NAMES)}")
    return found  # type: ignore[return-value]
