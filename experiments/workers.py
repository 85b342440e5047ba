# SPDX-License-Identifier: MIT
"""Worker processes that have a workload's mapping too, and act on it when they are told."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from multiprocessing import Pipe
from multiprocessing.connection import Connection

from cleanup.errors import CleanupError

Orders = Mapping[str, Callable[[], object]]
"""What workers can be told to do, by name. A function reports a failure by returning False."""


class Workers:
    """Processes that were forked from the caller, with its memory as it was then."""

    def __init__(self, pipes: Mapping[int, Connection]) -> None:
        self._pipes, self.pids = pipes, list(pipes)

    def tell(self, order: str) -> bool:
        """Have each worker in turn carry out an order; tell whether none reports a failure.

        Raises CleanupError where a worker has ended.
        """
        # `all` over a generator would stop at the first failure; each worker must be told.
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
    """Fork `count` workers, which end with the block or with this process."""
    with ExitStack() as stack:
        yield Workers(dict(stack.enter_context(_worker(orders)) for _ in range(count)))


@contextmanager
def _worker(orders: Orders) -> Iterator[tuple[int, Connection]]:
    ours, theirs = Pipe()
    pid = os.fork()
    if pid == 0:
        # A worker that held the parent's side of the pipe would not notice that the parent is gone.
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
