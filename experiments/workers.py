# SPDX-License-Identifier: MIT
"""Processes that have a workload's memory too, and do in it what they are told."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from multiprocessing import Pipe
from multiprocessing.connection import Connection

from cleanup.errors import CleanupError

Orders = Mapping[str, Callable[[], object]]
"""What a worker can do, by name; all was as it should be unless it returns False."""


class Workers:
    """Forked processes, by pid, whose memory is a copy of the caller's when they were forked."""

    def __init__(self, pipes: Mapping[int, Connection]) -> None:
        self._pipes, self.pids = pipes, list(pipes)

    def tell(self, order: str) -> bool:
        """Have it done, by one after the other: whether all was as it should be.

        Raises CleanupError where one has ended.
        """
        # Each is told, whatever those before it answered.
        answers = [_told(pid, pipe, order) for pid, pipe in self._pipes.items()]
        return all(answers)


def _told(pid: int, pipe: Connection, order: str) -> bool:
    try:
        pipe.send(order)
        return bool(pipe.recv())
    except (EOFError, ConnectionError) as error:
        raise CleanupError(f"process {pid} of the workload has ended") from error


@contextmanager
def workers(count: int, orders: Orders) -> Iterator[Workers]:
    """Fork so many, which end with the block, or with this process."""
    with ExitStack() as stack:
        yield Workers(dict(stack.enter_context(_worker(orders)) for _ in range(count)))


@contextmanager
def _worker(orders: Orders) -> Iterator[tuple[int, Connection]]:
    ours, theirs = Pipe()
    pid = os.fork()
    if pid == 0:
        # By a copy of its own it would not see that this process is gone.
        ours.close()
        try:
            while True:
                theirs.send(orders[theirs.recv()]() is not False)
        finally:
            os._exit(0)
    theirs.close()
    try:
        yield pid, ours
    finally:
        ours.close()
        os.waitpid(pid, 0)
