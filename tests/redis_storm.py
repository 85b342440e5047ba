# SPDX-License-Identifier: MIT
"""A storm on redis: keys are set, changed, expired and deleted en masse beside its snapshots.

A model here knows the value of every key.  All of them are read back in each round.  The snapshot
of each round is loaded by a second server, which runs without the library and jemalloc's hooks, and
is compared with what the model held when the first server forked.
"""

import os
import random
import shutil
import socket
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import preloaded
import storm
from experiments.allocators import redis
from storm import Length

KEYS = 40_000
# Where the processor is emulated, a round has to be shorter.
FEW_KEYS = 16_000
# A mass delete leaves one key in so many: of most units something, or of most units nothing.
KEPT_ONE_IN = (50, 10_000)
# Among so many keys some are set anew while others are deleted.
HOT = 50
# Commands that are sent before their answers are read.
BATCH = 500
# One value in so many is large: jemalloc gives it an extent of its own.
LARGE_ONE_IN = 400
# One key in so many expires, half of these within seconds.
EXPIRE_ONE_IN = 8
# The child of BGSAVE pauses for a moment at one key in so many, so that much is deleted meanwhile.
SAVE_PAUSE_ONE_IN = 4
# The server takes the time once for several commands, and so may find a key that has just expired.
SLACK_MS = 1000
ANSWER_SECONDS = 600

# By name: the library's settings, jemalloc's, and a count that shows that the library was at work.
# Debian's redis is linked with Debian's jemalloc.
SETTINGS = {
    # Of a small heap, huge pages and threads' caches would leave hardly any table empty.
    "library": (storm.CONF, "thp:never,tcache:false", "drains"),
    "hooks": (
        f"{storm.CONF},hooks:jemalloc",
        f"thp:never,{storm.DECAYS[0]}",
        "hook_units",
    ),
}

Answer = bytes | int | list["Answer"] | None
Command = tuple[bytes, ...]


class LostDataError(Exception):
    """The server holds something else than it was given."""


class Client:
    """A connection to a server, by redis's protocol."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(ANSWER_SECONDS)
        self._socket.connect(str(path))
        self._answers = self._socket.makefile("rb")

    def wait(self) -> None:
        """Wait until the server has loaded its snapshot: it answers little before."""
        end = time.monotonic() + ANSWER_SECONDS
        while b"\r\nloading:0" not in self.info(b"persistence"):
            assert time.monotonic() < end, "the server is still loading its snapshot"
            time.sleep(0.05)

    def info(self, section: bytes) -> bytes:
        """Return a section of what the server says of itself."""
        said = self.ask(b"INFO", section)
        assert isinstance(said, bytes)
        return said

    def close(self) -> None:
        """Close the connection."""
        self._answers.close()
        self._socket.close()

    def ask(self, *words: bytes) -> Answer:
        """Return the answer to one command."""
        (answer,) = self.ask_all([words])
        return answer

    def ask_all(self, commands: Sequence[Command]) -> list[Answer]:
        """Send commands at once, and return their answers."""
        sent = bytearray()
        for command in commands:
            sent += b"*%d\r\n" % len(command)
            for word in command:
                sent += b"$%d\r\n%b\r\n" % (len(word), word)
        self._socket.sendall(sent)
        return [self._answer() for _ in commands]

    def _answer(self) -> Answer:
        line = self._answers.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("the server has gone")
        kind, said = line[:1], line[1:-2]
        if kind == b"-":
            raise LostDataError(f"the server refused: {said.decode()}")
        if kind == b"+":
            return said
        if kind == b":":
            return int(said)
        if kind == b"*":
            return [self._answer() for _ in range(int(said))]
        if said == b"-1":
            return None
        text = self._answers.read(int(said) + 2)
        return text[:-2]


@dataclass
class Model:
    """What a server has to hold."""

    values: dict[bytes, bytes] = field(default_factory=dict)
    deadlines: dict[bytes, int] = field(default_factory=dict)
    """When keys expire, in milliseconds since 1970."""

    def copy(self) -> "Model":
        """Return a copy that stays as the model is now."""
        return Model(dict(self.values), dict(self.deadlines))

    def set(self, key: bytes, value: bytes) -> None:
        """Give a key a value, and no time at which it expires."""
        self.values[key] = value
        self.deadlines.pop(key, None)

    def forget(self, key: bytes) -> None:
        """Take a key away."""
        del self.values[key]
        self.deadlines.pop(key, None)

    def compare(self, client: Client) -> int:
        """Read every value, and forget keys that have expired; return how many were read.

        Raises LostDataError where a key or a value is missing or another, or should not be there.
        """
        if unknown := set(_keys(client)) - self.values.keys():
            raise LostDataError(
                f"{len(unknown)} keys were deleted, and are there: {min(unknown)!r}"
            )
        for keys in _batches(list(self.values)):
            before = _now()
            answers = client.ask_all([(b"GET", key) for key in keys])
            after = _now()
            for key, answer in zip(keys, answers, strict=True):
                deadline = self.deadlines.get(key)
                if answer is None and deadline is not None and after >= deadline:
                    self.forget(key)
                elif answer != self.values[key]:
                    raise LostDataError(
                        f"{key!r}: {_shown(answer)}, not {_shown(self.values[key])}"
                    )
                elif deadline is not None and before > deadline + SLACK_MS:
                    raise LostDataError(f"{key!r} expired, and is there")
        return len(self.values)


class Load:
    """What is done to one server: all that changes data changes the model likewise."""

    def __init__(self, client: Client, seed: int, keys: int) -> None:
        self.model = Model()
        self._keys = keys
        self.counts: Counter[str] = Counter()
        self._client = client
        self._chance = random.Random(seed)

    def fill(self) -> None:
        """Set the keys that are not there."""
        absent = [key for key in map(_key, range(self._keys)) if key not in self.model.values]
        for keys in _batches(absent):
            self._set(keys)

    def save(self) -> Model:
        """Begin a snapshot, and return what it has to hold."""
        said = self._client.ask(b"BGSAVE")
        assert said == b"Background saving started", repr(said)
        # The server has forked: what comes from now on is not in the snapshot.
        return self.model.copy()

    def saving(self) -> bool:
        """Say whether a snapshot is being written."""
        return b"rdb_bgsave_in_progress:1" in self._client.info(b"persistence")

    def saved(self) -> None:
        """Check that the last snapshot was written."""
        said = self._client.info(b"persistence")
        assert b"rdb_last_bgsave_status:ok" in said, repr(said)
        self.counts["snapshots"] += 1

    def delete_most(self) -> Iterator[int]:
        """Delete most keys; yield after each batch its size."""
        one_in = KEPT_ONE_IN[self.counts["snapshots"] % len(KEPT_ONE_IN)]
        keys = list(self.model.values)
        kept = set(self._chance.sample(keys, len(keys) // one_in))
        if one_in == KEPT_ONE_IN[0]:
            self._chance.shuffle(keys)
        for batch in _batches([key for key in keys if key not in kept]):
            lasting = [key for key in batch if key not in self.model.deadlines]
            # redis frees by a thread of its own what UNLINK deletes.
            how = self._chance.choice((b"DEL", b"UNLINK"))
            deleted, _ = self._client.ask_all([(how, *batch), (b"PING",)])
            for key in batch:
                self.model.forget(key)
            if not isinstance(deleted, int) or not len(lasting) <= deleted <= len(batch):
                raise LostDataError(f"{deleted!r} of {len(batch)} keys were there to delete")
            self.counts["deletes"] += len(batch)
            yield len(batch)

    def churn(self) -> None:
        """Set, append to and expire keys, some of which are there."""
        keys = [_key(number) for number in self._chance.sample(range(HOT), BATCH // 20)]
        self._set(keys)
        lasting = [key for key in keys if key not in self.model.deadlines]
        added = [(key, self._value(key)) for key in lasting[::2]]
        lengths = self._client.ask_all([(b"APPEND", key, more) for key, more in added])
        for key, more in added:
            self.model.values[key] += more
        if lengths != [len(self.model.values[key]) for key, _ in added]:
            raise LostDataError("values had another length before they were appended to")
        self.counts["appends"] += len(added)

    def purge(self) -> None:
        """Have jemalloc give back all that it can."""
        self._client.ask(b"MEMORY", b"PURGE")

    def _set(self, keys: Sequence[bytes]) -> None:
        commands: list[Command] = []
        for key in keys:
            value = self._value(key)
            self.model.set(key, value)
            command: Command = (b"SET", key, value)
            if self._chance.randrange(EXPIRE_ONE_IN) == 0:
                later = self._chance.choice((self._chance.randrange(50, 5000), 3_600_000))
                self.model.deadlines[key] = _now() + later
                command = (*command, b"PXAT", b"%d" % self.model.deadlines[key])
                self.counts["expires"] += 1
            commands.append(command)
        answers = self._client.ask_all(commands)
        assert answers == [b"OK"] * len(commands)
        self.counts["sets"] += len(commands)

    def _value(self, key: bytes) -> bytes:
        """Return bytes that begin with the key, so that another key's value is noticed."""
        large = self._chance.randrange(LARGE_ONE_IN) == 0
        size = self._chance.randrange(1, 200_000 if large else 2000)
        return key + b":" + self._chance.randbytes(size)


def run_preloaded(
    directory: Path,
    setting: str,
    length: Length,
    backend: str = "",
    *,
    shim: str = preloaded.SHIM,
    keys: int = KEYS,
) -> dict[str, int]:
    """Run a storm under the library in one of SETTINGS; `shim` replaces the library by another."""
    conf, malloc_conf, count = SETTINGS[setting]
    env = preloaded.environment(f"{conf}{backend}", MALLOC_CONF=malloc_conf)
    above = {count: 0} if backend else {count: 0, "freed_pte": 0}
    return run(directory, {**env, "LD_PRELOAD": shim}, length, above=above, keys=keys)


def run(
    directory: Path, env: Mapping[str, str], length: Length, *, above: Mapping[str, int], keys: int
) -> dict[str, int]:
    """Run a storm with the server in this environment; return its and the library's counts.

    At least a round of each kind is done.  Raises LostDataError, or an error of the connection or
    the server's end, if data was lost, and AssertionError unless counts exceed those in `above`.
    """
    begun = time.monotonic()
    with (
        redis.running(directory, {**os.environ, **env}) as server,
        closing(Client(directory / "socket")) as client,
    ):
        client.ask(b"CONFIG", b"SET", b"rdb-key-save-delay", b"-%d" % SAVE_PAUSE_ONE_IN)
        load = Load(client, length.seed, keys)
        end = begun + length.seconds
        while load.counts["snapshots"] < len(KEPT_ONE_IN) or time.monotonic() < end:
            _round(load, client, directory)
        assert server.ask("ping") == "PONG"
    of_library = preloaded.stats((directory / "stderr").read_text())
    found = {
        **(of_library[-1] if of_library else {}),
        **load.counts,
        "seconds": round(time.monotonic() - begun),
    }
    wanted = dict.fromkeys(("sets", "appends", "expires", "deletes_while_saving"), 0) | dict(above)
    lacking = {name: found.get(name, 0) for name, least in wanted.items()}
    assert all(lacking[name] > least for name, least in wanted.items()), lacking
    return found


def _round(load: Load, client: Client, directory: Path) -> None:
    load.fill()
    load.counts["reads"] += load.model.compare(client)
    expected = load.save()
    for number in load.delete_most():
        load.counts["deletes_while_saving"] += number if load.saving() else 0
        load.churn()
    while load.saving():
        load.churn()
    load.saved()
    if load.counts["snapshots"] % 3 == 2:
        load.purge()
    load.counts["reads"] += load.model.compare(client)
    load.counts["loaded"] += _compare_snapshot(directory, expected)


def _compare_snapshot(directory: Path, expected: Model) -> int:
    """Load a snapshot by a server without the library; return how many keys were compared."""
    loaded = directory / "loaded"
    loaded.mkdir()
    (directory / "dump.rdb").rename(loaded / "dump.rdb")
    plain = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    with redis.running(loaded, plain), closing(Client(loaded / "socket")) as client:
        client.wait()
        number = expected.compare(client)
    shutil.rmtree(loaded)
    return number


def _keys(client: Client) -> Iterator[bytes]:
    """Yield the keys that a server has."""
    cursor = b"0"
    while True:
        answer = client.ask(b"SCAN", cursor, b"COUNT", b"1000")
        assert isinstance(answer, list)
        following, keys = answer
        assert isinstance(following, bytes)
        assert isinstance(keys, list)
        yield from (key for key in keys if isinstance(key, bytes))
        cursor = following
        if cursor == b"0":
            return


def _key(number: int) -> bytes:
    return b"key:%d" % number


def _batches(keys: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    return (keys[first : first + BATCH] for first in range(0, len(keys), BATCH))


def _now() -> int:
    return time.time_ns() // 1_000_000


def _shown(value: object) -> str:
    """Return the beginning of a value, and its length."""
    return f"{value[:40]!r} ({len(value)} bytes)" if isinstance(value, bytes) else repr(value)
