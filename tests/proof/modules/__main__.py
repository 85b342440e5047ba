# SPDX-License-Identifier: MIT
"""On the host: builds a module of the proofs, for a guest to load.

    PYTHONPATH=tests python -P -m proof.modules shadow --kernel 6.12 --build debug

Prints its path below build/, which the guest sees wherever the checkout is.
"""

import argparse
import shutil
import sys
from pathlib import Path

from cleanup.lab import BUILDS, DEFAULT, build_module, get_debug_kernel, get_kernel
from cleanup.lab.progress import on_stderr

HERE = Path(__file__).parent
BUILD = HERE.parents[2] / "build"


def main() -> None:
    parser = argparse.ArgumentParser(prog="proof.modules", description="build a proof's module")
    names = sorted(path.parent.name for path in HERE.glob("*/Kbuild"))
    parser.add_argument("name", choices=names)
    parser.add_argument("--kernel", default=DEFAULT)
    parser.add_argument("--build", choices=BUILDS, help="of the kernel; Debian's by default")
    wanted = parser.parse_args()
    progress = on_stderr()
    if wanted.build:
        kernel = get_debug_kernel(wanted.kernel, wanted.build, progress=progress)
    else:
        kernel = get_kernel(wanted.kernel, progress=progress)
    built = build_module(kernel, source=HERE / wanted.name, progress=progress)
    seen = BUILD / "modules" / kernel.release / built.name
    seen.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(built, seen)
    sys.stdout.write(f"{seen}\n")


if __name__ == "__main__":
    main()
