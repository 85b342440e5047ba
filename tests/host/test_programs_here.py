# SPDX-License-Identifier: MIT
"""Tests of real programs under the library and jemalloc's hooks: they work, and lose no data."""

import random
import re
import shutil
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import redis_storm
import storm
from allocator_shim.preloading import jemalloc_path, library_path
from experiments.allocators import redis
from host import programs
from preloaded import stats
from storm import Length, Storms

LIBRARY, HOOKS = f"backend:null,{storm.CONF}", "backend:null,hooks:jemalloc,stats:exit"
KEYS, KEPT_ONE_IN = 300_000, 100_000
# A value repeats its key's number, so that a value under a wrong key is noticed.
FILL = """
for i = 0, tonumber(ARGV[1]) - 1 do
    redis.call('set', 'mine:' .. i, string.rep(i .. ';', 20))
end
"""
DELETE = """
for i = 0, tonumber(ARGV[1]) - 1 do
    if i % tonumber(ARGV[2]) ~= 0 then redis.call('unlink', 'mine:' .. i) end
end
"""
WRONG = """
local wrong = 0
for _, key in ipairs(redis.call('keys', 'mine:*')) do
    local number = string.sub(key, 6)
    if redis.call('get', key) ~= string.rep(number .. ';', 20) then wrong = wrong + 1 end
end
return wrong
"""


CHURN = Path(__file__).parents[2] / "experiments/allocators/foreign/Churn.java"


@pytest.mark.skipif(shutil.which("java") is None, reason="there is no Java")
def test_the_library_sees_java() -> None:
    """HotSpot's collectors give memory back by libc's functions."""
    ran = subprocess.run(
        ["java", "-Xms16m", "-Xmx256m", "-XX:+UseG1GC", CHURN, "64", "1000"],
        stdin=subprocess.DEVNULL,
        env=programs.environment("backend:null,stats:exit"),
        capture_output=True,
        text=True,
        check=True,
    )
    (found,) = stats(ran.stderr)
    assert found["notes"] > 10


@pytest.mark.parametrize("conf", [LIBRARY, HOOKS])
def test_redis_keeps_what_a_mass_delete_leaves(tmp_path: Path, conf: str) -> None:
    with redis.running(tmp_path, programs.environment(conf)) as server:
        server.benchmark("-t", "set,get", "-n", "20000", "-r", "1000", "-q")
        for _ in range(2):
            server.ask("eval", FILL, "0", str(KEYS))
            assert server.ask("eval", WRONG, "0") == "0"
            server.ask("eval", DELETE, "0", str(KEYS), str(KEPT_ONE_IN))
            server.ask("memory", "purge")
        assert server.ask("eval", WRONG, "0") == "0"
        assert "mine:100000" in server.ask("keys", "mine:*")
    (found,) = stats((tmp_path / "stderr").read_text())
    assert found["hook_units" if conf == HOOKS else "drains"] > 10


@pytest.mark.parametrize("setting", redis_storm.SETTINGS)
def test_redis_forks_for_its_snapshots(
    tmp_path: Path, setting: str, length: Length, storms: Storms
) -> None:
    """Redis writes snapshots while data changes: its child must see all data as at the fork."""
    found = redis_storm.run_preloaded(tmp_path, setting, length, ",backend:null")
    storms[f"redis, {setting}"] = found


def test_memcached_gives_back_what_it_was_given(tmp_path: Path) -> None:
    """memcached keeps its memory, so there are no tables to free; no value may be lost."""
    program = programs.unpacked("memcached", tmp_path / "tree") / "usr/bin/memcached"
    path = tmp_path / "socket"
    with (tmp_path / "stderr").open("wb") as stderr:
        server = subprocess.Popen(
            [program, "-s", str(path), "-m", "256", "-u", "root"],
            env=programs.environment(LIBRARY),
            stderr=stderr,
        )
    try:
        while not path.exists():
            assert server.poll() is None, (tmp_path / "stderr").read_text()
            time.sleep(0.05)
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(path))
            answers = connection.makefile("rb")
            for seed in range(2):
                values = dict(_values(seed, 20_000))
                for key, value in values.items():
                    connection.sendall(
                        b"set %s 0 0 %d noreply\r\n%s\r\n" % (key, len(value), value)
                    )
                for key in random.Random(seed).sample(sorted(values), 2000):
                    connection.sendall(b"get %s\r\n" % key)
                    assert answers.readline().startswith(b"VALUE " + key)
                    assert answers.readline()[:-2] == values[key]
                    assert answers.readline() == b"END\r\n"
                connection.sendall(b"flush_all\r\n")
                assert answers.readline() == b"OK\r\n"
        server.terminate()
        server.wait(60)
    finally:
        server.kill()
        server.wait()


def _values(seed: int, number: int) -> Iterator[tuple[bytes, bytes]]:
    chance = random.Random(seed)
    for index in range(number):
        yield b"%d-%d" % (seed, index), chance.randbytes(chance.randrange(1, 4000)).hex().encode()


ARRAYS = """
import numpy
from cleanup.process import page_tables
chance = numpy.random.default_rng(1)
kept = {}
for turn in range(400):
    index = int(chance.integers(40))
    if index in kept:
        array, total = kept.pop(index)
        assert int(array.sum(dtype=numpy.int64)) == total
    array = chance.integers(0, 100, int(chance.integers(1, 400_000)), dtype=numpy.int32)
    kept[index] = array, int(array.sum(dtype=numpy.int64))
for array, total in kept.values():
    assert int(array.sum(dtype=numpy.int64)) == total
"""


@pytest.mark.parametrize("python_malloc", ["malloc", "pymalloc"])
def test_numpy_computes_as_ever(python_malloc: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-P", "-c", textwrap.dedent(ARRAYS)],
        env=programs.environment(
            f"{HOOKS},threshold:1",
            jemalloc_path(),
            PYTHONMALLOC=python_malloc,
            MALLOC_CONF="thp:never,dirty_decay_ms:10",
        ),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr
    (found,) = stats(ended.stderr)
    assert found["hook_units"] > 0


DATABASE = """
import lmdb, random, sys
chance = random.Random(1)
with lmdb.open(sys.argv[1], map_size=1 << 32) as database:
    for turn in range(3):
        with database.begin(write=True) as transaction:
            for number in range(20_000):
                transaction.put(b"%d" % number, b"%d;" % number * chance.randrange(1, 100))
        with database.begin(write=True) as transaction:
            for number in range(20_000):
                if number % 100:
                    transaction.delete(b"%d" % number)
    with database.begin() as transaction:
        for key, value in transaction.cursor():
            assert int(key) % 100 == 0
            assert value == (key + b";") * (len(value) // (len(key) + 1))
        print(transaction.stat()["entries"])
"""


def test_lmdb_keeps_its_records(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-P", "-c", DATABASE, str(tmp_path)],
        env=programs.environment(LIBRARY),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "200\n"


@pytest.mark.parametrize(
    "library",
    [("libtcmalloc_minimal.so.4", "libtcmalloc-minimal4"), ("libmimalloc.so.2", "libmimalloc2.0")],
)
def test_other_allocators_churn(library: tuple[str, str], length: Length) -> None:
    """The library sees the releases of other allocators than jemalloc as well."""
    allocator = library_path(*library)
    storm.run_preloaded(length, LIBRARY, allocator, above={"drains": 100})


SERVER = """
import multiprocessing as m, os
def work(number):
    kept = [os.urandom(5000) for _ in range(300)]
    copies = [bytes(one) for one in kept]
    del kept[::2]
    assert kept == copies[1::2]
    return number * number
if __name__ == "__main__":
    for method in ("fork", "forkserver", "spawn"):
        with m.get_context(method).Pool(2, maxtasksperchild=3) as pool:
            assert pool.map(work, range(20)) == [number * number for number in range(20)]
    print("ended")
"""


@pytest.mark.parametrize("conf", [LIBRARY, HOOKS])
def test_fork_servers_serve(tmp_path: Path, conf: str) -> None:
    program = tmp_path / "server.py"
    program.write_text(SERVER)
    ended = subprocess.run(
        [sys.executable, "-P", program],
        env=programs.environment(conf, jemalloc_path(), PYTHONMALLOC="malloc"),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert (ended.returncode, ended.stdout) == (0, "ended\n"), ended.stderr
    assert not re.search(r"Error|corrupt|free\(\)", ended.stderr), ended.stderr
