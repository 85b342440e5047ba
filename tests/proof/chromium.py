# SPDX-License-Identifier: MIT
"""The proof that Chromium, sandboxed, makes the same of a page with the preload library as without.

Its renderer has a seccomp filter that allows few calls.  The browser runs as an ordinary user, from
packages that are unpacked, and not installed.
"""

import os
import platform
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import preloaded
from cleanup.lab.packages import Apt
from cleanup.lab.progress import Progress
from proof.task import Outcome, ProofFailed, ProofSkipped, Task

PACKAGE = "chromium-headless-shell"
# The host's loader goes with the host's C library.
HOSTS = ("libc6",)
# The loader would find the second by a path that the first's libraries have in them.
LIBRARIES = ("usr/lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu/pulseaudio")
CONF = "backend:null,threshold:1,stats:exit"
NOBODY = 65534
SECONDS = 300
# The script allocates and frees, computes, and takes this long, so that its process can be watched.
BUSY_MS = 4000
NUMBERS = 200_000
PAGE = f"""<!DOCTYPE html><title>proof</title><p id="said">nothing</p><script>
const end = performance.now() + {BUSY_MS};
let total = 0, rounds = 0;
do {{
    const numbers = Array.from({{length: {NUMBERS}}}, (_, index) => index);
    const blocks = numbers.slice(0, 20).map(number => new Uint8Array(1 << 20).fill(number));
    total = numbers.reduce((sum, one) => (sum + one * one) % 1000003, 0)
        + blocks.reduce((sum, block) => sum + block[block.length - 1], 0);
    rounds++;
}} while (performance.now() < end);
document.getElementById("said").textContent = `total ${{total}}`;
</script>
"""
TOTAL = sum(number * number for number in range(NUMBERS)) % 1_000_003 + sum(range(20))


@dataclass
class Seen:
    """What was seen of one run of the browser."""

    dom: str = ""
    renderers: dict[int, tuple[bool, str]] = field(default_factory=dict)
    """Whether each renderer ever had the library, and its seccomp mode at last."""
    stats: list[dict[str, int]] = field(default_factory=list)
    seconds: float = 0.0


def prove(task: Task) -> Outcome:
    """Load the page without the library and with it, and compare the documents."""
    _want_namespaces()
    with tempfile.TemporaryDirectory(prefix="pgtable-cleanup.") as name:
        place = Path(name)
        place.chmod(0o755)
        version = _unpack(place / "tree", task.progress)
        library = shutil.copy(preloaded.SHIM, str(place))
        Path(library).chmod(0o644)
        page = place / "page.html"
        page.write_text(PAGE)
        without = _browse(place, page, {})
        beside = _browse(place, page, {**preloaded.environment(CONF), "LD_PRELOAD": library})
    if told := _complaints(without, beside):
        raise ProofFailed("; ".join(told))
    return Outcome(
        {
            "chromium": version,
            "dom_bytes": len(beside.dom),
            "without": _figures(without),
            "with": _figures(beside),
        },
        "",
    )


def _complaints(without: Seen, beside: Seen) -> list[str]:
    told = []
    for seen, what in ((without, "without"), (beside, "with")):
        if f'<p id="said">total {TOTAL}</p>' not in seen.dom:
            told.append(f"{what} the library the page has another document: {seen.dom[:500]!r}")
        if not seen.renderers:
            told.append(f"no renderer was seen {what} the library")
        if any(mode != "2" for _, mode in seen.renderers.values()):
            told.append(f"a renderer had no filter {what} the library")
    if without.dom != beside.dom:
        told.append("the documents differ")
    if any(has for has, _ in without.renderers.values()):
        told.append("a renderer had the library that should not have it")
    if not all(has for has, _ in beside.renderers.values()):
        told.append("a renderer did not have the library")
    if not any(one["drains"] for one in beside.stats):
        told.append("the library did not drain in any process")
    return told


def _figures(seen: Seen) -> dict[str, Any]:
    return {
        "renderers": [
            {"library": has, "seccomp": int(mode)} for has, mode in seen.renderers.values()
        ],
        "processes_that_told": len(seen.stats),
        "drains": sum(one["drains"] for one in seen.stats),
        "seconds": round(seen.seconds, 1),
    }


def _want_namespaces() -> None:
    """Raise ProofSkipped where an ordinary user may make no user namespace: the sandbox is one."""
    tried = subprocess.run(
        ["unshare", "--user", "--pid", "--net", "--map-root-user", "--fork", "true"],
        capture_output=True,
        text=True,
        check=False,
        **_user(),
    )
    if tried.returncode:
        raise ProofSkipped(f"Chromium's sandbox needs user namespaces: {tried.stderr.strip()}")


def _user() -> dict[str, Any]:
    """Return arguments of subprocess that make root an ordinary user."""
    if os.geteuid():
        return {}
    return {"user": NOBODY, "group": NOBODY, "extra_groups": []}


def _unpack(tree: Path, progress: Progress) -> str:
    """Unpack the browser and all that it needs; return its version."""
    suite = platform.freedesktop_os_release()["VERSION_CODENAME"]
    with Apt.locked([suite], progress) as apt:
        packages = apt.resolve(suite, [PACKAGE])
        wanted = [package for package in packages if package.name not in HOSTS]
        apt.unpack(PACKAGE, wanted, tree)
    return next(package.version for package in packages if package.name == PACKAGE)


def _browse(place: Path, page: Path, preload: Mapping[str, str]) -> Seen:
    """Have the browser print the page's document, and watch its renderers meanwhile."""
    home = Path(tempfile.mkdtemp(dir=place))
    if not os.geteuid():
        os.chown(home, NOBODY, NOBODY)
    browser = place / "tree/usr/lib/chromium/chromium-headless-shell"
    seen = Seen()
    begun = time.monotonic()
    with (home / "out").open("w+") as out, (home / "err").open("w+") as err:
        process = subprocess.Popen(
            [browser, "--disable-gpu", f"--user-data-dir={home}", "--dump-dom", page.as_uri()],
            env={
                "HOME": str(home),
                "PATH": os.environ["PATH"],
                "LD_LIBRARY_PATH": ":".join(str(place / "tree" / name) for name in LIBRARIES),
                **preload,
            },
            cwd=home,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
            **_user(),
        )
        try:
            while process.poll() is None:
                if time.monotonic() > begun + SECONDS:
                    raise ProofFailed(f"the browser did not end in {SECONDS} s")
                for pid, (has, mode) in _renderers(place):
                    # A process that ends loses its mappings, and one that begins has no filter.
                    had, earlier = seen.renderers.get(pid, (False, "0"))
                    seen.renderers[pid] = has or had, max(mode, earlier)
                time.sleep(0.1)
        finally:
            process.kill()
            process.wait()
        out.seek(0)
        err.seek(0)
        seen.dom, said = out.read(), err.read()
    seen.stats = preloaded.stats(said)
    seen.seconds = time.monotonic() - begun
    if process.returncode:
        raise ProofFailed(f"the browser ended with {process.returncode}: {said[-2000:]}")
    return seen


def _renderers(place: Path) -> Iterator[tuple[int, tuple[bool, str]]]:
    """Yield the renderers of the browser that are there now, and what is seen of them."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, StopIteration):
            if not (process / "exe").readlink().is_relative_to(place):
                continue
            if b"--type=renderer" not in (process / "cmdline").read_bytes():
                continue
            maps = (process / "maps").read_text()
            status = (process / "status").read_text().splitlines()
            mode = next(line.split()[1] for line in status if line.startswith("Seccomp:"))
            yield int(process.name), (Path(preloaded.SHIM).name in maps, mode)
