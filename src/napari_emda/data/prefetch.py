"""Read or draw ahead in threads, while the device computes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def prefetched(
    make: Callable[[int], T],
    start: int,
    stop: int,
    *,
    ahead: int = 3,
    threads: int = 1,
    on_start: Callable[[], None] | None = None,
) -> Generator[T]:
    """Yield ``make(start), make(start + 1) ...``, computed ahead in threads while the caller works.

    Args:
        make: called in order, by all threads at once.
        start: its first argument.
        stop: one past its last.
        ahead: maximum number of results that wait or are being computed; bounds the memory.
        threads: number of threads; the results keep their order.
        on_start: called in each thread before anything else.
    """
    with ThreadPoolExecutor(threads, "prefetch", on_start or (lambda: None)) as pool:
        waiting: deque[Future[T]] = deque()
        try:
            for step in range(start, stop):
                while len(waiting) < min(ahead, stop - step):
                    waiting.append(pool.submit(make, step + len(waiting)))
                yield waiting.popleft().result()
        finally:
            # A caller that stops early must not wait for results that nobody will use.
            for future in waiting:
                future.cancel()
