# SPDX-License-Identifier: MIT
"""Processes that have a workload's memory too, and do in it what they are told."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from cleanup.errors import CleanupError

Obey = Callable[[bytes], bool]
"""Does what one byte says, in the worker: whether all was as it should be."""

_DONE, _FAILED = b"d", b"f"


class Workers:
    """Forked processes, of which the memory is the caller's of then."""

    def __init__(self, each: Sequence["_Worker"]) -> None:
        self._each = each
        self.pids = [one.pid for one in each]

    def tell(self, order: bytes) -> bool:
        """Have it done, one after the other: whether all was as it should be; CleanupError."""
        # Each is told, whatever those before it answered.
        answers = [one.tell(order) for one in self._each]
        return all(answers)


@contextmanager
def workers(count: int, obey: Obey) -> Iterator[Workers]:
    """So many that end with the block, or with this process."""
    with ExitStack() as stack:
        yield Workers([stack.enter_context(_worker(obey)) for _ in range(count)])


class _Worker:
    def __init__(self, pid: int, orders: int, answers: int) -> None:
        self.pid = pid
        self._orders, self._answers = orders, answers

    def tell(self, order: bytes) -> bool:
        """Have it done: whether all was as it should be; CleanupError where it has ended."""
        os.write(self._orders, order)
        answer = os.read(self._answers, 1)
        if not answer:
            raise CleanupError(f"process {self.pid} of the workload has ended")
        return answer == _DONE


@contextmanager
def _worker(obey: Obey) -> Iterator[_Worker]:
    orders, order_to = os.pipe()
    answers, answer_to = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(order_to)
        try:
            while order := os.read(orders, 1):
                os.write(answer_to, _DONE if obey(order) else _FAILED)
        finally:
            os._exit(0)
    os.close(orders)
    os.close(answer_to)
    try:
        yield _Worker(pid, order_to, answers)
    finally:
        os.close(order_to)
        os.close(answers)
        os.waitpid(pid, 0)
