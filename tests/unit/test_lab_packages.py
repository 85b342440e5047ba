# SPDX-License-Identifier: MIT
"""Tests of where packages come from: apt itself reads sources lists that are made up."""

import shutil
import subprocess
from pathlib import Path

import pytest

from cleanup.lab import LabError, packages

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(shutil.which("apt-get") is None, reason="needs apt")

DEBIAN = "deb http://mirror.example/debian trixie main"
UBUNTU = """\
deb http://archive.example/ubuntu noble main universe
deb http://security.example/ubuntu noble-security main
"""


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the file that apt takes for the host's sources list, for a test to write."""
    for directory in ("parts", "lists/partial"):
        (tmp_path / directory).mkdir(parents=True)
    configuration = tmp_path / "apt.conf"
    configuration.write_text(
        f'Dir::Etc::sourcelist "{tmp_path}/sources.list";\n'
        f'Dir::Etc::sourceparts "{tmp_path}/parts";\n'
        f'Dir::State::lists "{tmp_path}/lists";\n'
    )
    monkeypatch.setenv("APT_CONFIG", str(configuration))
    monkeypatch.delenv("PGTABLE_CLEANUP_MIRROR", raising=False)
    keyring = tmp_path / "keyring.gpg"
    keyring.touch()
    monkeypatch.setattr(packages, "KEYRING", keyring)
    return tmp_path / "sources.list"


@pytest.mark.parametrize(
    "text",
    [
        DEBIAN,
        f"{UBUNTU}\n{DEBIAN}",
        "deb [arch=amd64] http://mirror.example/debian/ bookworm main contrib",
        "deb http://mirror.example/debian sid main",
        "deb http://security.example/debian-security trixie-security main\n" + DEBIAN,
        "deb http://vendor.example/tools trixie main\n" + DEBIAN,
        "deb cdrom:[Debian]/ trixie main\n" + DEBIAN,
    ],
)
def test_the_hosts_debian_mirror_is_found(sources: Path, text: str) -> None:
    sources.write_text(text)
    assert packages.debian_mirror() == "http://mirror.example/debian"


def test_so_it_is_in_the_newer_format(sources: Path) -> None:
    (sources.parent / "parts/debian.sources").write_text(
        "Types: deb\nURIs: http://mirror.example/debian\nSuites: trixie trixie-updates\n"
        "Components: main\n"
    )
    assert packages.debian_mirror() == "http://mirror.example/debian"


NO_MIRROR = [
    "",
    UBUNTU,
    "deb http://security.example/debian-security trixie-security main",
    "deb http://mirror.example/debian trixie contrib",
    "deb cdrom:[Debian]/ trixie main",
]


@pytest.mark.parametrize("text", NO_MIRROR)
def test_a_host_without_one_is_told_what_to_do_in_one_line(sources: Path, text: str) -> None:
    sources.write_text(text)
    with pytest.raises(LabError) as caught:
        packages.debian_mirror()
    message = str(caught.value)
    assert "\n" not in message
    assert "no Debian mirror" in message
    assert "PGTABLE_CLEANUP_MIRROR" in message
    assert "debian-archive-keyring" in message


@pytest.mark.parametrize("text", NO_MIRROR)
def test_make_says_so_too_before_any_work(sources: Path, text: str) -> None:
    sources.write_text(text)
    done = subprocess.run(
        [ROOT / "tools/system-packages.sh"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert "no Debian mirror" in done.stderr
    assert "PGTABLE_CLEANUP_MIRROR" in done.stderr


@pytest.mark.usefixtures("sources")
def test_the_environment_names_another_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGTABLE_CLEANUP_MIRROR", "http://other.example/debian")
    assert packages.debian_mirror() == "http://other.example/debian"


def test_debians_keys_are_needed(sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources.write_text(DEBIAN)
    monkeypatch.setattr(packages, "KEYRING", sources.parent / "none.gpg")
    with pytest.raises(LabError, match="install debian-archive-keyring"):
        packages.debian_mirror()


def test_missing_system_packages_are_named_in_one_command(tmp_path: Path) -> None:
    """system-packages.sh tells an ordinary user with few programs on PATH what to install."""
    for tool in ("apt-get", "grep", "sh"):
        (tmp_path / tool).symlink_to(shutil.which(tool) or tool)
    identity = tmp_path / "id"
    identity.write_text("#!/bin/sh\necho 1000\n")
    identity.chmod(0o755)
    # Without root's directories on its PATH, the script doesn't find the host's mkfs.ext4.
    script = (ROOT / "tools/system-packages.sh").read_text().replace("/usr/sbin:/sbin", "/none")
    done = subprocess.run(
        ["/bin/sh", "-c", script],
        env={"PATH": str(tmp_path), "PGTABLE_CLEANUP_MIRROR": "http://mirror.example/debian"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    command = line.partition("type: ")[2]
    assert command.startswith("sudo apt-get install")
    for package in ("qemu-system-x86", "bubblewrap", "e2fsprogs", "gcc", "python3-venv"):
        assert f" {package}" in command
