# SPDX-License-Identifier: MIT
"""Processes that have a workload's memory too, and do in it what they are told."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cleanup.errors import CleanupError

Obey = Callable[[bytes], bool]
"""Does what one byte says, in the worker: whether all was as it should be."""

_DONE, _FAILED = b"d", b"f"


class Worker:
    """A forked process, of which the memory is the caller's of then."""

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
def worker(obey: Obey) -> Iterator[Worker]:
    """One that ends with the block, or with this process."""
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
        yield Worker(pid, order_to, answers)
    finally:
        os.close(order_to)
        os.close(answers)
        os.waitpid(pid, 0)
