# SPDX-License-Identifier: MIT
"""Tests of where kernels come from, also once Debian serves one no more; apt is faked."""

import re
import subprocess
from pathlib import Path

import pytest

from cleanup.lab import DEFAULT, SOURCES, KernelNotServed, LabError, get_kernel, kernels, packages
from cleanup.lab.progress import Silent
from cleanup.lab.sources import newest_source

ROOT = Path(__file__).parents[2]

# A suite of this fake apt is a file that lists packages; error messages are those of apt 2.6.
APT_GET = """\
#!/bin/sh
suites=$(sed 's/.* \\([^ ]*\\) main$/\\1/' "$XDG_CACHE_HOME/pgtable-cleanup/apt/sources.list")
case "$*" in
*" update")
    for suite in $suites; do
        [ -e "$SUITES/unreachable" ] && { echo "E: Failed to fetch X: timed out"; exit 100; }
        [ -e "$SUITES/$suite" ] ||
            { echo "E: The repository 'X $suite Release' does not have a Release file."; exit 100; }
    done ;;
*" install "*)
    for word; do name=$word; done
    echo "'X/$name.deb' ${name}_1.2-3_amd64.deb 1000 SHA256:0" ;;
esac
"""
APT_CACHE = """\
#!/bin/sh
suites=$(sed 's/.* \\([^ ]*\\) main$/\\1/' "$XDG_CACHE_HOME/pgtable-cleanup/apt/sources.list")
for suite in $suites; do cat "$SUITES/$suite"; done
"""


@pytest.fixture
def suites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the directory of a fake mirror's suites, which list no packages yet."""
    directory = tmp_path / "suites"
    directory.mkdir()
    for name, text in (("apt-get", APT_GET), ("apt-cache", APT_CACHE)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("SUITES", str(directory))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PGTABLE_CLEANUP_MIRROR", "http://mirror.example/debian")
    monkeypatch.setattr(packages, "KEYRING", tmp_path / "apt-get")
    monkeypatch.setattr(kernels, "get_build_root", lambda **_: None)
    for suite in ("bookworm", "trixie"):
        (directory / suite).touch()
    return directory


def found(name: str) -> str:
    with kernels.serving(name, SOURCES[name].image, Silent()) as (_, _, image):
        return image


def test_the_newest_release_is_chosen(suites: Path) -> None:
    (suites / "trixie").write_text(
        "linux-image-6.12.9+deb13-amd64\nlinux-image-6.12.117+deb13-amd64\n"
        "linux-image-6.12.118+deb13-cloud-amd64\nlinux-image-6.12.118+deb13-amd64-dbg\n"
        "linux-image-6.1.0-99-amd64\nlinux-headers-6.12.119+deb13-amd64\n"
    )
    assert found("6.12") == "linux-image-6.12.117+deb13-amd64"


def test_the_suites_are_asked_in_order(suites: Path) -> None:
    (suites / "bookworm-backports").write_text("linux-image-6.12.95+deb12-amd64\n")
    assert found("6.12") == "linux-image-6.12.95+deb12-amd64"
    (suites / "trixie").write_text("linux-image-6.12.94+deb13-amd64\n")
    assert found("6.12") == "linux-image-6.12.94+deb13-amd64"


def test_a_kernel_that_backports_dropped_is_not_served(suites: Path) -> None:
    (suites / "trixie-backports").write_text("linux-image-7.4.1+deb13-amd64\n")
    with pytest.raises(KernelNotServed) as caught:
        get_kernel("7.3")
    assert "Debian serves no linux 7.3 any more (trixie-backports: no package" in str(caught.value)
    with pytest.raises(KernelNotServed):
        newest_source("7.3", Silent())


def test_a_suite_that_is_gone_serves_nothing(suites: Path) -> None:
    with pytest.raises(KernelNotServed, match="trixie-backports: the mirror has no such suite"):
        get_kernel("7.3")


def test_a_mirror_that_is_down_is_another_matter(suites: Path) -> None:
    (suites / "unreachable").touch()
    with pytest.raises(LabError, match="cannot download") as caught:
        get_kernel("7.3")
    assert not isinstance(caught.value, KernelNotServed)


def test_a_kernel_that_was_downloaded_goes_on_working(suites: Path, tmp_path: Path) -> None:
    tree = tmp_path / "cache/pgtable-cleanup/kernels/7.3"
    modules = tree / "usr/lib/modules/7.3.4-amd64"
    modules.mkdir(parents=True)
    for name in ("vmlinuz", "modules.dep"):
        (modules / name).touch()
    assert get_kernel("7.3").release == "7.3.4-amd64"
    assert get_kernel("7.3", refresh=True).release == "7.3.4-amd64"


def test_the_source_of_a_kernel_is_found_where_the_kernel_is(suites: Path) -> None:
    (suites / "bookworm-backports").write_text("linux-source-6.12\n")
    package = newest_source("6.12", Silent())
    assert (package.name, package.version) == ("linux-source-6.12", "1.2-3")


def test_sed_finds_the_same_kernels_in_the_list() -> None:
    """The Makefile takes the kernels' names from kernels.toml by sed, without Python."""
    file = ROOT / "cleanup/lab/kernels.toml"
    command = ["sed", "-n", r's/^\["\(.*\)"\]$/\1/p', str(file)]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert listed.split() == list(SOURCES)
    assert DEFAULT in SOURCES


def test_the_hosts_mirror_is_looked_for_by_the_same_releases() -> None:
    """system-packages.sh and the lab list the same Debian releases, among them every kernel's."""
    script = (ROOT / "tools/system-packages.sh").read_text()
    (listed,) = re.findall(r"^releases='\((.*)\)'$", script, re.MULTILINE)
    assert f"(?:{listed})" in packages.INDEX.pattern
    wanted = {suite.partition("-")[0] for each in SOURCES.values() for suite in each.suites}
    assert wanted <= set(listed.split("|"))
