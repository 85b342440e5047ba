# SPDX-License-Identifier: MIT
"""Leave 8,192 empty page tables behind, as sparse use of memory does.

python leave_tables.py          print what is left, and end
python leave_tables.py --stay   hold them in a background process, and print its id
"""

import mmap
import os
import signal
import sys
from pathlib import Path

UNIT = 2 << 20  # what one page table maps
SIZE = 16 << 30
MAP_NORESERVE = 0x4000  # mmap.MAP_NORESERVE since Python 3.13


def leave_tables() -> mmap.mmap:
    """Write one page in each 2 MiB of a large mapping, and give every page back."""
    memory = mmap.mmap(-1, SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE)
    memory.madvise(mmap.MADV_NOHUGEPAGE)
    for offset in range(0, SIZE, UNIT):
        memory[offset] = 1
    for offset in range(0, SIZE, UNIT):
        memory.madvise(mmap.MADV_DONTNEED, offset, mmap.PAGESIZE)
    return memory


def stay() -> None:
    """Leave the tables in a process that stays in the background, and print its id."""
    reader, writer = os.pipe()
    if os.fork():
        os.close(writer)
        # The child is ready once it tells its process id.
        sys.stdout.write(os.read(reader, 16).decode())
        return
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    memory = leave_tables()
    os.write(writer, f"{os.getpid()}\n".encode())
    signal.pause()
    memory.close()


if __name__ == "__main__":
    if sys.argv[1:] == ["--stay"]:
        stay()
    else:
        kept = leave_tables()
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(("VmRSS", "VmPTE")):
                sys.stdout.write(f"{line}\n")
