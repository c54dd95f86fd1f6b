"""Batches drawn ahead in the background, where drawing one takes long."""

from __future__ import annotations

import queue
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Generic, TypeVar

T = TypeVar("T")
_Call = tuple[int, int, int | None]
_Jobs = queue.SimpleQueue[tuple[Future[T], Callable[[], T]] | None]


class Ahead(Generic[T]):
    """`Ahead(stream.at).at(cursor, size, resolution)` gives what `stream.at` gives, and meanwhile makes what is probably asked for next.

    After two calls whose cursors differ by d, with equal size and resolution, those at +d, +2d, ... (`depth` of them) are made by one
    thread in the background, so `at` must be a function of its arguments alone. Their errors are raised where the batch is asked for.
    The thread is a daemon and ends with the object.
    """

    def __init__(self, at: Callable[[int, int, int | None], T], depth: int = 2) -> None:
        self._at = at
        self._depth = depth
        self._last: _Call | None = None
        self._expected: dict[_Call, Future[T]] = {}
        self._jobs: _Jobs[T] = queue.SimpleQueue()
        threading.Thread(target=_work, args=(self._jobs,), name="ahead", daemon=True).start()
        weakref.finalize(self, _end, self._expected, self._jobs)

    def at(self, cursor: int, size: int, resolution: int | None = None) -> T:
        """As of the function that was given."""
        asked = (cursor, size, resolution)
        stride = cursor - self._last[0] if self._last and self._last[1:] == asked[1:] else 0
        self._last = asked
        wanted = [(cursor + step * stride, size, resolution) for step in range(1, self._depth + 1)] if stride > 0 else []
        ready = self._expected.pop(asked, None)
        for call in self._expected.keys() - set(wanted):
            self._expected.pop(call).cancel()
        if ready is None:
            # Before anything is begun in the background, which would only take time from it.
            ready = Future()
            _fulfil(ready, partial(self._at, *asked))
        for call in wanted:
            if call not in self._expected:
                self._expected[call] = Future()
                self._jobs.put((self._expected[call], partial(self._at, *call)))
        return ready.result()


def _work(jobs: _Jobs[T]) -> None:
    """Does the jobs until None comes. It knows the queue alone, so that it keeps no `Ahead` alive."""
    while (job := jobs.get()) is not None:
        _fulfil(*job)
        # What was handed out must not stay in memory until the next job comes.
        del job


def _fulfil(future: Future[T], make: Callable[[], T]) -> None:
    if future.set_running_or_notify_cancel():
        try:
            future.set_result(make())
        except BaseException as error:  # Whoever waits for it raises it; a thread that died in silence would be waited for forever.
            future.set_exception(error)


def _end(expected: dict[_Call, Future[T]], jobs: _Jobs[T]) -> None:
    for future in expected.values():
        future.cancel()
    jobs.put(None)
