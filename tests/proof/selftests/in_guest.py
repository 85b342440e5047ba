# SPDX-License-Identifier: MIT
"""Run selftests in a guest, with a cleaner beside them or without; print the results as JSON."""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, nullcontext, suppress
from pathlib import Path
from typing import Any

from guest.settings import setting, zram_swap
from proof.selftests.cleaner import Cleaner
from proof.selftests.programs import PROGRAMS, Program

SETTINGS = Path("/proc/sys")
# Swap space for the tests of entries that are swapped out.
SWAP = "256M"


def run(program: Program, directory: Path) -> dict[str, Any]:
    """Run a program; return its output, seconds and exit code, None if it ran out of time."""
    with ExitStack() as stack:
        for name, value in program.settings.items():
            stack.enter_context(setting(SETTINGS / name, value))
        if program.hugepages:
            (SETTINGS / "vm/drop_caches").write_text("3")
            (SETTINGS / "vm/compact_memory").write_text("1")
            pool = SETTINGS / "vm/nr_hugepages"
            stack.enter_context(setting(pool, str(program.hugepages)))
            if int(pool.read_text()) != program.hugepages:
                say(f"{program.command}: only {pool.read_text().strip()} huge pages")
        output = stack.enter_context(tempfile.TemporaryFile())
        begun = time.monotonic()
        process = subprocess.Popen(
            [f"./{program.executable}", *program.command.split()[1:]],
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            user=program.user,
            start_new_session=True,
        )
        code = None
        with suppress(subprocess.TimeoutExpired):
            code = process.wait(program.limit)
        seconds = time.monotonic() - begun
        # This kills the program's children, too, which may have outlived it.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        output.seek(0)
        text = output.read().decode(errors="replace")
    return {
        "command": program.command,
        "exit_code": code,
        "seconds": round(seconds, 3),
        "output": text,
    }


def say(message: str) -> None:
    """Write a line of progress to standard error."""
    sys.stderr.write(f"{message}\n")
    sys.stderr.flush()


def main() -> None:
    """Run the programs that the command line names."""
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    parser.add_argument("commands", nargs="+")
    parser.add_argument("--cleaner", action="store_true")
    parser.add_argument("--times", type=int, default=1)
    options = parser.parse_args()
    # Some programs make files, or map their own: both take a file system that is not the host's.
    scratch = Path(os.environ["PGTABLE_CLEANUP_SCRATCH"]) / "programs"
    shutil.copytree(options.directory, scratch)
    chosen = [program for program in PROGRAMS if program.command in options.commands]
    cleaner = Cleaner()
    with zram_swap(SWAP), cleaner.working() if options.cleaner else nullcontext():
        runs = []
        for program in chosen * options.times:
            before = cleaner.freed
            done = run(program, scratch)
            cleaner.check()
            freed = [now - then for now, then in zip(cleaner.freed, before, strict=True)]
            told = f"exit code {done['exit_code']}, {done['seconds']:.1f} s, {sum(freed)} freed"
            say(f"{program.command}: {told}")
            runs.append({**done, "freed": freed})
    json.dump({"runs": runs, "rounds": cleaner.rounds}, sys.stdout)


if __name__ == "__main__":
    main()
