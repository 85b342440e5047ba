# SPDX-License-Identifier: MIT
"""Tests of the extent hooks in real processes, on each version of jemalloc that Debian serves."""

import textwrap

import pytest

from cleanup.lab import KernelNotServed
from host import jemallocs
from host.jemallocs import Jemalloc

WAYS = ["zap", "remap", "nothing"]


@pytest.fixture(scope="module", params=jemallocs.SUITES)
def under(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Jemalloc:
    """Return a jemalloc."""
    try:
        return jemallocs.get(request.param, tmp_path_factory.mktemp("jemalloc"))
    except KernelNotServed:
        pytest.skip(f"the mirror does not have the release with jemalloc {request.param}")


CHURN = """
    way, threads, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    assert jemalloc.install_hooks(way) == way
    lost = []
    def work(seed):
        objects = Objects(40_000, 8000, seed)
        objects.fill()
        for _ in range(rounds):
            objects.release(1000)
            objects.churn(30_000)
            objects.fill()
        objects.check()
        objects.release(1000)
        lost.append(objects.lost)
    workers = [threading.Thread(target=work, args=(seed,)) for seed in range(threads)]
    for worker in workers:
        worker.start()
    while any(worker.is_alive() for worker in workers):
        jemalloc.purge()
        time.sleep(0.01)
    for worker in workers:
        worker.join()
    jemalloc.purge()
    stats = jemalloc.hook_stats()
    print(len(lost), sum(lost), stats.units > 0, stats.foreign)
"""


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("conf", ["dirty_decay_ms:0,muzzy_decay_ms:0", "dirty_decay_ms:20", ""])
def test_threads_lose_no_byte(under: Jemalloc, way: str, conf: str) -> None:
    """No byte is lost if one thread purges, and so decommits, while others commit units."""
    rounds = "6" if under == jemallocs.installed() else "2"
    assert under.run(CHURN, conf, way, "4", rounds).split() == ["4", "0", "True", "0"]


LOCKED = """
    way, first, length = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    SIZE = 7 << 20
    assert jemalloc.install_hooks(way) == way
    old = _libc.malloc(SIZE)
    _libc.fill(old, SIZE, 0xAA)
    _libc.mlock(old + first, length)
    locked = status("VmLck")
    _libc.free(old)
    jemalloc.purge()
    # jemalloc prefers what is free at lower addresses.  How much that is depends on its clock.
    new, reused = [], False
    while not reused and len(new) < 64 or len(new) < 4:
        new.append(_libc.calloc(SIZE))
        reused = reused or abs(new[-1] - old) < SIZE
    stale = sum(_libc.bytes_not(addr, SIZE, 0) for addr in new)
    print(reused, stale, locked >= length, status("VmLck") == locked)
    # Once it is not locked it goes as ever, with its tables.
    before = jemalloc.hook_stats().units
    _libc.munlock(old, SIZE)
    for addr in new:
        _libc.free(addr)
    jemalloc.purge()
    print(jemalloc.hook_stats().units - before)
"""


@pytest.mark.parametrize("way", [*WAYS, "module"])
@pytest.mark.parametrize(
    ("first", "length"),
    [(0, 7 << 20), (3 << 20, 4096), (5 << 20, 2 << 20)],
    ids=["all", "a page", "the end"],
)
def test_calloc_of_what_was_locked_is_zero(
    under: Jemalloc, way: str, first: int, length: int
) -> None:
    """Reused memory is zero and still locked."""
    said = under.run(
        LOCKED, "narenas:1", way, str(first), str(length), shim_conf="backend:null"
    ).split()
    assert said[:4] == ["True", "0", "True", "True"]
    assert int(said[4]) >= 3 * 4


@pytest.mark.parametrize("way", WAYS)
def test_locked_memory_stays_in_memory(under: Jemalloc, way: str) -> None:
    """A program that has locked its memory has no fault when it uses freed memory again."""
    said = under.run(
        """
        import resource
        jemalloc.install_hooks(sys.argv[1])
        _libc.mlockall(3)
        def use():
            block = _libc.malloc(6 << 20)
            _libc.fill(block, 6 << 20, 7)
            _libc.free(block)
            jemalloc.purge()
        use()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(5):
            use()
        print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
        """,
        "narenas:1,dirty_decay_ms:0,muzzy_decay_ms:0",
        way,
    )
    assert int(said) < 500


@pytest.mark.parametrize("forks", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_what_was_told_the_kernel_of_memory_stays(under: Jemalloc, way: str, forks: bool) -> None:
    """Memory that is given back keeps its advice, and no mapping is added; so too in a child."""
    said = under.run(
        """
        jemalloc.install_hooks(sys.argv[1])
        SIZE = 32 << 20
        def mappings():
            \"\"\"Return what the kernel says of each part of the memory.\"\"\"
            found, flags = [], ""
            with open("/proc/self/smaps") as lines:
                for line in lines:
                    first = line.split()[0]
                    if "-" in first:
                        start, end = (int(part, 16) for part in first.split("-"))
                    elif first == "VmFlags:" and start < memory + SIZE and end > memory:
                        found.append((max(start, memory), min(end, memory + SIZE), line.split()))
            return found
        memory = _libc.malloc(SIZE)
        _libc.fill(memory, SIZE, 7)
        # MADV_NOHUGEPAGE, MADV_WIPEONFORK, MADV_DONTDUMP of whole units; the child of a fork
        # would not have what MADV_DONTFORK is for.
        forks = sys.argv[2] == "True"
        first = -(-memory // (2 << 20)) * (2 << 20)
        for number, advice in enumerate((15, 18, 16) if forks else (15, 18, 16, 10)):
            _libc.madvise(first + number * (6 << 20), 4 << 20, advice)
        if forks and (child := os.fork()):
            sys.exit(os.waitpid(child, 0)[1] != 0)
        before, number = mappings(), sum(1 for _ in open("/proc/self/maps"))
        assert len(before) >= 5
        now = memory
        for _ in range(3):
            _libc.free(now)
            jemalloc.purge()
            now = _libc.malloc(SIZE)
            assert now >> 12 == memory >> 12
        assert mappings() == before
        assert sum(1 for _ in open("/proc/self/maps")) <= number + 2
        assert jemalloc.hook_stats().units >= 30
        print("kept", flush=True)
        os._exit(0)
        """,
        "narenas:1,dirty_decay_ms:0,oversize_threshold:0",
        way,
        str(forks),
    )
    assert said == "kept\n"


def test_memory_of_before_is_left_as_it_was(under: Jemalloc) -> None:
    said = under.run("""
        old = Objects(20_000, 4000, 1)
        old.fill()
        print(jemalloc.install_hooks("remap"))
        new = Objects(20_000, 4000, 2)
        new.fill()
        old.release(100)
        new.release(100)
        jemalloc.purge()
        print(old.check(), new.check(), old.lost, new.lost)
    """)
    assert said.split() == ["remap", "200", "200", "0", "0"]


@pytest.mark.parametrize("way", ["zap", "remap"])
def test_tables_go_with_their_pages(under: Jemalloc, way: str) -> None:
    if way == "zap" and not under.frees_units():
        pytest.skip("this kernel frees no table at MADV_DONTNEED")
    objects = 1_000_000
    program = "jemalloc.install_hooks(sys.argv[1])" + jemallocs.RELEASED_IN_STEPS
    said = under.run(program, "thp:never", way, str(objects))
    jemallocs.check_tables_went(said, objects)


MEASURED = """
    def arenas_maps():
        return sum(1 for _ in open("/proc/self/maps"))
    # At the first mallctl() jemalloc makes records of all arenas, with hooks or without.
    jemalloc.version()
    # jemalloc grows by a fifth at a time.  A heap that just needs another step is not to be told
    # from one that takes a fifth more.
    _libc.set_size_in_jemalloc("arena.0.retain_grow_limit", 2 << 20)
    if sys.argv[1] != "none":
        jemalloc.install_hooks(sys.argv[1])
    objects = Objects(40_000, 4000, 3)
    objects.fill()
"""


def with_and_without(under: Jemalloc, program: str, conf: str) -> list[list[int]]:
    """Return the numbers that a program prints without the hooks, and with each way of them."""
    return [
        [int(number) for number in under.run(MEASURED + program, conf, way).split()]
        for way in ("none", *WAYS)
    ]


@pytest.mark.parametrize("conf", ["", "narenas:512", "thp:always", "dss:primary"])
def test_a_process_has_the_memory_that_it_has_without_hooks(under: Jemalloc, conf: str) -> None:
    """Address space, memory, tables and mappings are as without hooks, also when all is locked."""
    program = """
    print(status("VmSize"), status("VmRSS"), vmpte(), arenas_maps() << 20)
    _libc.mlockall(1)
    print(status("VmLck"))
    """
    without, *others = with_and_without(under, program, conf)
    for found in others:
        for figure, usual in zip(found, without, strict=True):
            assert figure <= usual * 1.2 + (2 << 20)


@pytest.mark.parametrize("way", ["none", *WAYS])
def test_oversize_memory_is_purged_at_once(under: Jemalloc, way: str) -> None:
    """jemalloc's arena for oversize memory is as it makes it, and gets the hooks where it needs."""
    said = under.run(
        """
        way = sys.argv[1]
        if way != "none":
            jemalloc.install_hooks(way)
        big = bytearray(16 << 20)
        mapped = jemalloc.hook_stats().mapped if way != "none" else 0
        decays = [_libc.size_in_jemalloc(f"arena.4.{kind}_decay_ms") for kind in ("dirty", "muzzy")]
        print(*decays, mapped >= 16 << 20)
        """,
        "narenas:4,dirty_decay_ms:5000,muzzy_decay_ms:6000",
        way,
    )
    assert said.split() == ["0", "0", str(way not in {"none", "zap"})]


def test_what_is_locked_from_now_on_is_not_much_more(under: Jemalloc) -> None:
    """Under mlockall(MCL_FUTURE) the kernel fills each mapping when it is made."""
    program = """
    _libc.mlockall(3)
    more = Objects(10_000, 4000, 4)
    more.fill()
    print(status("VmLck"), status("VmRSS"))
    """
    without, *others = with_and_without(under, program, "")
    for found in others:
        for figure, usual in zip(found, without, strict=True):
            assert figure <= usual * 1.2 + (2 << 20)


def test_a_limit_on_data_counts_what_is_used(under: Jemalloc) -> None:
    """Under RLIMIT_DATA of 8 GiB a program allocates as without hooks."""
    said = under.run("""
        import resource
        resource.setrlimit(resource.RLIMIT_DATA, (8 << 30, 8 << 30))
        jemalloc.install_hooks("remap")
        objects = Objects(100_000, 8000, 3)
        objects.fill()
        assert _libc.mmap(0, 4 << 30, 3, 0x22)
        print(objects.check(), objects.lost)
    """)
    assert said.split() == ["100000", "0"]


@pytest.mark.parametrize("way", WAYS)
def test_memory_older_than_the_hooks_is_merged_again(under: Jemalloc, way: str) -> None:
    """jemalloc merges extents that the hooks leave alone, as it does without hooks."""
    program = """
        import random
        def extents():
            jemalloc.stats()
            return sum(
                jemalloc.read_size(f"stats.arenas.0.extents.{index}.n{kind}")
                for index in range(190) for kind in ("dirty", "muzzy", "retained")
            )
        old = [bytearray(5 << 20) for _ in range(30)]
        del old
        jemalloc.purge()
        if sys.argv[1] != "none":
            jemalloc.install_hooks(sys.argv[1])
        chance, live = random.Random(1), []
        for turn in range(6000):
            live.append(bytearray(chance.randrange(20_000, 400_000)))
            if len(live) > 250:
                live.pop(chance.randrange(len(live)))
            if turn % 500 == 0:
                jemalloc.purge()
        live.clear()
        jemalloc.purge()
        print(extents())
    """
    without, found = (int(under.run(program, "narenas:1", one)) for one in ("none", way))
    # Runs of either kind leave 20 to 30; where none of them is merged, 5,000 are left.
    assert found <= 2 * without


@pytest.mark.parametrize("way", ["zap", "remap"])
def test_fork_in_the_middle_of_it(under: Jemalloc, way: str) -> None:
    """A child finds no unit that a thread of its parent was giving back: it would wait for ever.

    Half of each thread's memory becomes free at once, in pieces larger than a unit, so that a
    purge gives back many units.  It does that without Python's lock, which a fork takes.  There is
    one arena, so that the child allocates where the parent's threads did.
    """
    program = """
        import random
        jemalloc.install_hooks(sys.argv[1])
        def use(seed, turns):
            chance, live = random.Random(seed), []
            while turns and going:
                live += [bytearray(chance.randrange(100_000, 4_000_000)) for _ in range(10)]
                chance.shuffle(live)
                del live[5:]
                jemalloc.purge()
                turns -= 1
        going = True
        workers = [threading.Thread(target=use, args=(seed, -1)) for seed in range(3)]
        for worker in workers:
            worker.daemon = True
            worker.start()
        mine = Objects(5000, 8000, 9)
        for turn in range(25):
            mine.churn(5000)
            child = os.fork()
            if child == 0:
                use(turn, 8)
                mine.churn(5000)
                mine.fill()
                mine.check()
                os._exit(mine.lost != 0)
            how = ended(child)
            # Before 5.3, jemalloc itself leaves locks of extents taken in a child now and then:
            # it does not hold them while it forks (its issue 2019).
            of_jemalloc = f"waits for a lock of {os.path.realpath(sys.argv[2])}"
            assert how == 0 or (how == of_jemalloc and jemalloc.version() < "5.3"), how
        going = False
        for worker in workers:
            worker.join()
        print(mine.lost)
    """
    program = jemallocs.CHILDREN + textwrap.dedent(program)
    said = under.run(program, "narenas:1", way, str(under.library))
    assert said == "0\n"
