"""What a map is made of: the source of its items, the sizer of its chunks, the window of those on their way.

Not for several threads at once: the map's locks guard them, and its essay says what must hold when Ctrl-C comes.
"""

from __future__ import annotations

import itertools
from collections import deque

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from .future import Future

CHUNK_SECONDS = 0.002
CHUNK_BYTES = 1 << 20
GROWTH = 16

# ---- what items are taken from ----


def snapshot(iterable: Iterable[Any]) -> Any:
    """Return the items of what has a length, as they are now; None for what has none, or is its own iterator."""
    if type(iterable) in (tuple, range, str, bytes, frozenset):
        return iterable  # it cannot change
    if type(iterable) is list:
        return iterable.copy()
    try:
        len(iterable)  # type: ignore[arg-type]
    except Exception:  # many things have a __len__ that does not always answer: tqdm(generator)
        return None
    iterator = iter(iterable)
    return None if iterator is iterable else list(iterator)


class Source:
    """The items, each what one call gets. Not for several threads at once."""

    def __init__(self, iterables: tuple[Iterable[Any], ...], *, lazy: bool = False) -> None:
        taken = [None if lazy else snapshot(iterable) for iterable in iterables]
        lengths = [len(items) for items in taken if items is not None]
        parts = [
            iterable if items is None else items for iterable, items in zip(iterables, taken, strict=True)
        ]
        # `total`: how many there are, unless an iterator ends before.  `settled`: there is none, no code of the
        # caller's runs when items are taken.
        self.total: int | None = min(lengths, default=None)
        self.settled = len(lengths) == len(iterables)
        self.star = len(parts) != 1
        # `ready`: items, and which of them is the next.  Chunks are cut out of what is there at once; of anything else
        # there is as much as was read.
        whole = taken[0] if len(taken) == 1 else None
        if type(whole) is tuple:
            whole = list(whole)
        self._is_over = isinstance(whole, list | range)
        self.ready: tuple[list[Any] | range, int] = (whole if isinstance(whole, list | range) else [], 0)
        self._items: Iterator[Any] = iter(()) if self._is_over or self.star else iter(parts[0])
        if self.star:
            self._items = zip(*parts, strict=False)
        self.error: Exception | None = None  # why it has ended

    def _left(self) -> int:
        items, at = self.ready
        return len(items) - at

    @property
    def ended(self) -> bool:
        """Return whether there is nothing more to be sent."""
        return self._is_over and not self._left()

    def take(self, count: int) -> int:
        """Have the next items ready, and return how many: fewer than `count` at the end."""
        if not self._is_over and self._left() < count:
            items, at = self.ready
            if at:
                items = items[at:]
                self.ready = (items, 0)
            assert isinstance(items, list)  # what was read
            try:
                items.extend(itertools.islice(self._items, count - len(items)))
            except Exception as error:
                self.error = error
                self._is_over = True
            else:
                self._is_over = len(items) < count
        return min(self._left(), count)

    def skip(self, count: int) -> None:
        """Do without so many of the items that are ready."""
        items, at = self.ready
        self.ready = (items, at + count)

    def stop(self, error: Exception | None = None) -> None:
        """Take nothing more: an error is raised where the next result would have been."""
        self.error = self.error or error
        self._is_over = True
        self.ready = ([], 0)


# ---- how many make a chunk ----


class Sizer:
    """Chooses the sizes of chunks from what others took."""

    def __init__(self, *, fixed: int | None, most: int, workers: int, total: int | None) -> None:
        self.fixed = fixed is not None
        self.size = min(fixed or 1, most)
        self._most = most
        self._workers = workers
        self._total = total
        self.count = 0  # items that were sent
        self._bytes = 0.0  # of an item

    def next(self, room: int | None = None) -> int:
        """Return how many items to send, at most `room`."""
        size = self.size
        if not self.fixed:
            if self._total is not None:
                # The last chunks get smaller, so that all workers end at the same time.
                size = min(size, (self._total - self.count) // (2 * self._workers))
            if self._bytes * size > CHUNK_BYTES:
                size = int(CHUNK_BYTES / self._bytes)
            size = max(1, size)
        return size if room is None else min(size, room)

    def sent(self, count: int, nbytes: int) -> None:
        """Take note of a chunk that was sent, and of its size in bytes."""
        self.count += count
        self._bytes = nbytes / count

    def learn(self, seconds: float, count: int) -> None:
        """Take note of how long so many items took."""
        if not self.fixed and count:
            best = int(CHUNK_SECONDS * count / max(seconds, 1e-7))
            self.size = max(1, min(best, self.size * GROWTH, self._most))

    def hurry(self) -> None:
        """Choose larger chunks without knowing more: nobody waits for the first."""
        if not self.fixed:
            self.size = min(self.size * 2, self._most)


# ---- what is on its way ----


class Window:
    """The futures of chunks, oldest first, and how many items they have that were not given out."""

    def __init__(self, chunks: int, items: int | None) -> None:
        self._chunks = chunks
        self._items = items
        self._ahead = 0
        self.futures: deque[Future[Any]] = deque()

    def __len__(self) -> int:
        return len(self.futures)

    def is_full(self) -> bool:
        """Return whether nothing is to be sent until a result has been asked for."""
        if self._items is not None and self._ahead >= self._items:
            return True
        return len(self.futures) >= self._chunks

    def room(self) -> int | None:
        """Return how many items may be sent; None: any number."""
        return None if self._items is None else max(self._items - self._ahead, 0)

    def added(self, count: int) -> None:
        """Take note that chunks were added to the futures."""
        self._ahead += count

    def newest(self) -> Future[Any]:
        """Return the chunk that was sent last."""
        return self.futures[-1]

    def all(self) -> list[Future[Any]]:
        """Return all chunks."""
        return list(self.futures)

    def oldest(self) -> Future[Any]:
        """Return the chunk that was sent first."""
        return self.futures[0]

    def divided(self) -> None:
        """Put the parts of the oldest chunk, if it has any, in its place: all at once."""
        parts = self.futures[0]._parts
        if parts:
            self.futures = deque((*parts, *itertools.islice(self.futures, 1, None)))
        else:
            self.futures.popleft()

    def given(self, count: int) -> None:
        """Take note that results were given out."""
        self._ahead -= count

    def cancel(self) -> None:
        """Cancel what has not begun."""
        for future in self.futures:
            cancel(future)

    def clear(self) -> None:
        """Forget all chunks."""
        self.futures.clear()


def cancel(future: Future[Any]) -> None:
    """Cancel a chunk, or what is left of it."""
    if not future.cancel():
        for part in future._parts:
            cancel(part)
