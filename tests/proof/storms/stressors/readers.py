# SPDX-License-Identifier: MIT
"""Stressors that walk the tables of a process, with locks and without."""

import os
import random
import struct
import tempfile
from contextlib import ExitStack
from pathlib import Path

from _raw import syscall

from cleanup import _uapi
from guest.layout import PAGE
from proof.storms.contents import PAGES_A_UNIT, UNITS
from proof.storms.stressors.base import Anonymous, Unavailable

SYS_PREAD64, SYS_PWRITE64, SYS_VMSPLICE, SYS_PROCESS_VM_READV = 17, 18, 278, 310


class FastGups(Anonymous):
    """vmsplice() and O_DIRECT walk tables without locks, process_vm_readv() with the mmap lock."""

    def __init__(self, stack: ExitStack, chance: random.Random) -> None:
        super().__init__(stack, chance)
        scratch = os.environ.get("PGTABLE_CLEANUP_SCRATCH")
        if scratch is None:
            raise Unavailable("no file system for O_DIRECT: lab run --disk 1G")
        file, path = tempfile.mkstemp(dir=scratch)
        os.close(file)
        self._direct = os.open(path, os.O_RDWR | os.O_DIRECT)
        stack.callback(os.close, self._direct)
        Path(path).unlink()
        self._pipe = os.pipe()
        for end in self._pipe:
            stack.callback(os.close, end)

    def step(self) -> None:
        self.contents.churn()
        page = self.contents.any_page()
        self.contents.write(page)
        address = self.contents.address(page)
        self._by_direct_io(page, address)
        buffer = bytearray(PAGE)
        local, remote = (
            bytearray(struct.pack("=QQ", where, PAGE))
            for where in (_uapi.address_of(buffer), address)
        )
        vectors = (_uapi.address_of(local), 1, _uapi.address_of(remote), 1)
        assert syscall(SYS_PROCESS_VM_READV, os.getpid(), *vectors, 0) == PAGE
        wanted = self.contents.values[page]
        assert buffer[0] == wanted, "process_vm_readv() read what is not there"
        assert syscall(SYS_VMSPLICE, self._pipe[1], _uapi.address_of(remote), 1, 0) == PAGE
        assert os.read(self._pipe[0], PAGE)[0] == wanted, "vmsplice() gave what is not there"

    def _by_direct_io(self, page: int, address: int) -> None:
        """Write a page to a file, and read it back when its table may have been freed."""
        assert syscall(SYS_PWRITE64, self._direct, address, PAGE, 0) == PAGE
        value = self.contents.values[page]
        self.contents.release_unit(page // PAGES_A_UNIT)
        assert syscall(SYS_PREAD64, self._direct, address, PAGE, 0) == PAGE
        self.contents.values[page] = value
        self.contents.check(page)


class Readers(Anonymous):
    """Files of /proc walk the tables: smaps, numa_maps, pagemap and clear_refs."""

    def step(self) -> None:
        self.contents.churn()
        for name in ("smaps", "smaps_rollup", "numa_maps"):
            Path(f"/proc/self/{name}").read_bytes()
        with Path("/proc/self/pagemap").open("rb", buffering=0) as pagemap:
            os.pread(pagemap.fileno(), UNITS * PAGES_A_UNIT * 8, self.made.addr // PAGE * 8)
        Path("/proc/self/clear_refs").write_text(self.chance.choice("14"))
        self.contents.check_written()


class Shadows(Anonymous):
    """A user of mmu notifiers, tests/proof/modules/shadow, must see what the process writes."""

    DEVICE = Path("/dev/pgtable_cleanup_shadow")

    def __init__(self, stack: ExitStack, chance: random.Random) -> None:
        super().__init__(stack, chance)
        if not self.DEVICE.exists():
            raise Unavailable("the module shadow is not loaded: --shadow PATH")
        self._shadow = os.open(self.DEVICE, os.O_RDONLY | os.O_CLOEXEC)
        stack.callback(os.close, self._shadow)

    def step(self) -> None:
        self.contents.churn()
        self._compare([self.contents.any_page(), *list(self.contents.values)[:8]])
        unit = self.contents.any_unit()
        self.contents.release_unit(unit)
        pages = [unit * PAGES_A_UNIT + self.chance.randrange(PAGES_A_UNIT) for _ in range(4)]
        # The shadow remembers zero pages now, which the module may drop before they are written.
        self._compare(pages)
        for page in pages:
            self.contents.write(page)
        self._compare(pages)

    def _compare(self, pages: list[int]) -> None:
        for page in pages:
            seen = os.pread(self._shadow, 1, self.contents.address(page))[0]
            wanted = self.contents.values.get(page, 0)
            assert seen == wanted, f"the shadow of page {page} is stale: {seen}, not {wanted}"
