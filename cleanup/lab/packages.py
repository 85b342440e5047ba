# SPDX-License-Identifier: MIT
"""Downloads Debian's signed packages and extracts them into a directory; installs nothing.

apt runs with a state, a cache and a sources list of its own, below the lab's cache, and an empty
list of installed packages.  It keeps the rest of the host's configuration: proxies, credentials.
"""

import errno
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from cleanup.lab.cache import MORE_SPACE, cache_dir, explained, lock
from cleanup.lab.errors import KernelNotServed, LabError
from cleanup.lab.host import dies_with_us, follow, run
from cleanup.lab.progress import Advance, Progress

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")

# Finds the mirror in an index's URI. The security archive has no backports, and does not match.
INDEX = re.compile(
    r"'((?:[a-z]+\+)?(?:http|https|ftp|file|copy):.*)/dists/"
    r"(?:oldoldstable|oldstable|stable|testing|unstable|sid|bookworm|trixie|forky|duke)"
    r"(?:-updates|-backports)?/main/"
)

# apt's messages on a suite that a mirror does not have, or has no more.
NO_SUITE = re.compile(r"does not have a Release file|no longer has a Release file")

# The most space on disk of packages and their unpacked files, as a multiple of the packages' size.
UNPACKED = 7

ANOTHER_MIRROR = "check the network, or let PGTABLE_CLEANUP_MIRROR name another mirror"

APT_CONFIGURATION = """\
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear APT::Architectures;
#clear APT::Default-Release;
APT::Architecture "amd64";
APT::Architectures {{ "amd64"; }};
APT::Get::List-Cleanup "false";
APT::Install-Recommends "false";
APT::Sandbox::User "root";
APT::Update::Error-Mode "any";
Acquire::Languages "none";
Acquire::Retries "2";
Dir::Cache "{apt}/cache";
Dir::Etc::sourcelist "{apt}/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::Log "{apt}/log";
Dir::State "{apt}/state";
Dir::State::status "{apt}/status";
"""


@dataclass(frozen=True)
class Package:
    """One package as apt would fetch it; ``size`` in bytes."""

    name: str
    version: str
    size: int


def debian_mirror() -> str:
    """Return the Debian mirror to use: PGTABLE_CLEANUP_MIRROR, or that of the host's own apt.

    Raises LabError on a host that has neither, or lacks Debian's keys.
    """
    mirror = os.environ.get("PGTABLE_CLEANUP_MIRROR") or _host_mirror()
    if mirror is None:
        raise LabError(
            "this host's apt has no Debian mirror: let PGTABLE_CLEANUP_MIRROR name one "
            "(http://HOST/debian) and install debian-archive-keyring"
        )
    if not KEYRING.exists():
        raise LabError(f"{KEYRING} not found: install debian-archive-keyring")
    return mirror


def _host_mirror() -> str | None:
    """Return the Debian mirror that the host's apt is set up to use, or None."""
    printed = run("apt-get", "update", "--print-uris")
    mirrors = [found[1] for line in printed.stdout.splitlines() if (found := INDEX.match(line))]
    # Other archives have suites of the same names, but a Debian mirror usually ends in /debian.
    mirrors.sort(key=lambda mirror: not mirror.endswith("/debian"))
    return mirrors[0] if mirrors else None


class Apt:
    """A private apt over some of Debian's suites."""

    def __init__(self, suites: Sequence[str], progress: Progress, *, sources: bool = False) -> None:
        """Fetch the package lists of those suites, or those of their source packages."""
        self._progress = progress
        self._top = cache_dir() / "apt"
        mirror = debian_mirror()
        for directory in ("state/lists/partial", "cache/archives/partial", "log"):
            (self._top / directory).mkdir(parents=True, exist_ok=True)
        (self._top / "status").touch()
        (self._top / "apt.conf").write_text(APT_CONFIGURATION.format(apt=self._top))
        kind = "deb-src" if sources else "deb"
        lines = [f"{kind} [signed-by={KEYRING}] {mirror} {suite} main\n" for suite in suites]
        (self._top / "sources.list").write_text("".join(lines))
        with progress.step("fetching Debian's package lists") as advance:
            self._fetch(["update"], self._top, advance)

    @classmethod
    @contextmanager
    def locked(
        cls, suites: Sequence[str], progress: Progress, *, sources: bool = False
    ) -> Iterator["Apt"]:
        """Yield an up-to-date apt that no other process uses meanwhile."""
        with lock("apt", progress), explained(f"write to {cache_dir()}"):
            yield cls(suites, progress, sources=sources)

    def newest(self, pattern: str) -> str:
        """Return the kernel's package of the highest version whose name matches.

        Raises KernelNotServed if there is none.
        """
        names = self._run(["apt-cache", "pkgnames", "linux-"]).split()
        found = [name for name in names if re.fullmatch(pattern, name)]
        if not found:
            raise KernelNotServed(f"no package is named like {pattern}")
        return max(found, key=lambda name: [int(part) for part in re.findall(r"\d+", name)])

    def resolve(self, suite: str, names: Iterable[str]) -> list[Package]:
        """Return packages of a suite, with all that they depend on."""
        lines = self._run(
            ["apt-get", "--target-release", suite, "--print-uris", "-y", "install", *names]
        )
        packages = []
        for line in lines.splitlines():
            if line.startswith("'"):
                _uri, file, size, *_hash = line.split()
                name, version, _architecture = file.split("_")
                packages.append(Package(name, unquote(version), int(size)))
        return packages

    def unpack(self, what: str, packages: Sequence[Package], tree: Path) -> None:
        """Download the packages, check their signatures and hashes, and extract them.

        Downloaded packages are kept until all are extracted, so that an interrupted download goes
        on where it stopped.
        """
        files = self._top / "packages"
        files.mkdir(exist_ok=True)
        size = sum(package.size for package in packages)
        want_space(files, UNPACKED * size)
        wanted = [f"{package.name}={package.version}" for package in packages]
        with self._progress.step(f"downloading {what} ({size / 1e6:.0f} MB)") as advance:
            self._fetch(["download", *wanted], files, advance)
        paths = [
            next(files.glob(f"{p.name}_{p.version.replace(':', '%3a')}_*.deb")) for p in packages
        ]
        with self._progress.step(f"unpacking {what}") as advance:
            _extract(paths, tree, advance)
        shutil.rmtree(files)

    def source(self, suite: str, name: str, directory: Path) -> None:
        """Download the archives of a source package into a directory, and check their hashes."""
        with self._progress.step(f"downloading the source of {name}") as advance:
            self._fetch(["source", "--download-only", f"{name}/{suite}"], directory, advance)

    def _run(self, command: Sequence[str]) -> str:
        name, *arguments = command
        done = run(name, "-c", self._top / "apt.conf", *arguments)
        if done.returncode != 0:
            raise LabError(f"{name} {arguments[0]} failed: {_reason(done.stderr.splitlines())}")
        return done.stdout

    def _fetch(self, arguments: Sequence[str], directory: Path, advance: Advance) -> None:
        """Run apt-get on the network, following its machine-readable progress."""
        options = ("-c", self._top / "apt.conf", "--quiet", "-o", "APT::Status-Fd=1")
        messages = []

        def hear(line: str) -> None:
            if line.startswith("dlstatus:"):
                advance(float(line.split(":")[2]) / 100)
            elif line.startswith(("E:", "W:")):
                messages.append(line)

        command = dies_with_us("apt-get", *options, *arguments)
        env = os.environ | {"LC_ALL": "C.UTF-8"}
        if follow(command, hear, cwd=directory, env=env) != 0:
            reason = _reason(messages)
            if NO_SUITE.search(reason):
                raise KernelNotServed("the mirror has no such suite")
            full = os.strerror(errno.ENOSPC) in reason
            hint = MORE_SPACE if full else ANOTHER_MIRROR
            raise LabError(f"cannot download from the Debian mirror: {reason}; {hint}")


def _reason(messages: Sequence[str]) -> str:
    errors = [line for line in messages if line.startswith("E:")] or list(messages)
    return errors[0].removeprefix("E:").strip() if errors else "no reason given"


def want_space(directory: Path, size: int) -> None:
    """Raise LabError unless the directory's file system has ``size`` bytes left."""
    free = shutil.disk_usage(directory).free
    if free < size:
        raise LabError(
            f"{directory} has {free / 1e6:.0f} MB left, about {size / 1e6:.0f} MB are needed: "
            f"{MORE_SPACE}"
        )


def _extract(paths: Sequence[Path], tree: Path, advance: Advance) -> None:
    def extract(path: Path) -> None:
        done = run("dpkg-deb", "--extract", path, tree)
        if done.returncode != 0:
            raise LabError(f"cannot unpack {path.name}: {done.stderr.strip()}")

    # The biggest packages go first, so that no processor idles at the end.
    biggest_first = sorted(paths, key=lambda path: -path.stat().st_size)
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        for done, _ in enumerate(pool.map(extract, biggest_first), start=1):
            advance(done / len(paths))
    finally:
        pool.shutdown(cancel_futures=True)
