# SPDX-License-Identifier: MIT
"""Tests of the module by the kernel's own checkers, and of variants that must be refused."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cleanup import lab
from cleanup.lab.build import module_source
from cleanup.lab.buildroot import get_build_root
from cleanup.lab.cache import cache_dir, lock, replacing
from cleanup.lab.progress import Silent
from cleanup.lab.sources import fetch_source, newest_source

COMMAND = Path(sys.executable).parent / "pgtable-cleanup"


@pytest.mark.parametrize("name", list(lab.SOURCES))
def test_builds_without_a_word_from_the_compiler_and_sparse(name: str) -> None:
    """`make check`, which turns on W=1 and sparse, checks every source without a warning."""
    module = lab.build_module(lab.get_kernel(name), make_args=["check"])
    log = (module.parent / "build.log").read_text()
    checked = [line.split()[-1] for line in log.splitlines() if line.split()[:1] == ["CHECK"]]
    assert {Path(file).name for file in checked} == {
        path.name for path in module_source().rglob("*.c")
    }
    said = [line for line in log.splitlines() if ".c:" in line or ".h:" in line]
    assert said == []


def checkpatch() -> Path:
    """Return a directory with checkpatch.pl and its word lists, from Debian's kernel source."""
    directory = cache_dir() / "checkpatch"
    if not directory.exists():
        with lock("checkpatch", Silent()), replacing(directory) as new:
            source = newest_source("6.12", Silent())
            archive = fetch_source("6.12", source, new, Silent())
            command = ["tar", "--extract", "--strip-components=2", f"--directory={new}"]
            command += [f"--file={archive}"]
            for member in ("checkpatch.pl", "spelling.txt", "const_structs.checkpatch"):
                command.append(f"{source.name}/scripts/{member}")
            subprocess.run(command, check=True)
            archive.unlink()
    return directory


def test_checkpatch_strict_finds_nothing() -> None:
    """Two rules of checkpatch are off in compat/: they object to tests of the kernel's version."""
    source = module_source()
    files = sorted(path for path in source.rglob("*") if path.suffix in (".c", ".h"))
    scripts = checkpatch()
    complaints = []
    for path in files:
        inside = Path("/mnt") / path.relative_to(source)
        arguments = ["--no-tree", "--strict", "--terse", "--no-summary", "--file", str(inside)]
        if path.parent.name == "compat":
            arguments[:0] = ["--ignore", "LINUX_VERSION_CODE,CONSTANT_COMPARISON"]
        try:
            get_build_root().run(
                ["perl", "/tools/checkpatch.pl", *arguments],
                readable={Path("/mnt"): source, Path("/tools"): scripts},
            )
        except lab.LabError as error:
            complaints.append(str(error))
    assert not complaints, "\n".join(complaints)
    assert files


def test_version_tests_stand_in_compat_alone() -> None:
    source = module_source()
    for path in source.rglob("*.[ch]"):
        if path.parent.name != "compat":
            assert "VERSION_CODE" not in path.read_text(), path


SCRIPT = """
say() { echo "== $1"; }
say missing; pgtable-cleanup reclaim $$; echo "exit $?"
say vendor; insmod "$VENDOR"; echo "exit $?"
say unproved; insmod "$VENDOR" allow_unproved=1; echo "exit $?"
cat /proc/sys/kernel/tainted; pgtable-cleanup features --json | tr -d '\\n'; echo
rmmod pgtable_cleanup
say abi; insmod "$OTHER_ABI"; pgtable-cleanup reclaim $$; echo "exit $?"
rmmod pgtable_cleanup
say mode; insmod "$GOOD" mode=0600; stat -c %a /dev/pgtable_cleanup
say busy; sleep 60 < /dev/pgtable_cleanup & sleep 1; rmmod pgtable_cleanup; echo "exit $?"
kill $!; wait $! ; rmmod pgtable_cleanup; echo "exit $?"
say badmode; insmod "$GOOD" mode=01777; echo "exit $?"
say log; dmesg | grep 'pgtable_cleanup: ' | sed 's/^[^]]*] //'
"""


@pytest.fixture(scope="module")
def said(pool: lab.Pool) -> dict[str, list[str]]:
    """Return what each part of SCRIPT printed in a guest with 6.12."""
    kernel = lab.get_kernel("6.12")
    variants = {
        "GOOD": lab.build_module(kernel),
        "VENDOR": lab.build_module(kernel, make_args=['KCFLAGS=-DPGTC_VENDOR=\\"Nobody\\"']),
        "OTHER_ABI": lab.build_module(
            kernel, make_args=["KCFLAGS=-DPGTABLE_CLEANUP_ABI_VERSION=99"]
        ),
    }
    result = pool.guest(kernel, lab.Machine(module=False)).run(
        ["sh", "-c", f"PATH={COMMAND.parent}:$PATH; exec 2>&1; {SCRIPT}"],
        env={name: str(path) for name, path in variants.items()},
    )
    parts: dict[str, list[str]] = {}
    for line in result.stdout.decode().splitlines():
        if line.startswith("== "):
            parts[line[3:]] = lines = []
        else:
            lines.append(line)
    return parts


def test_no_device(said: dict[str, list[str]]) -> None:
    message, code = said["missing"]
    assert code == "exit 1"
    assert "/dev/pgtable_cleanup" in message


def test_another_vendors_kernel_is_refused(said: dict[str, list[str]]) -> None:
    assert said["vendor"][-1] == "exit 1"
    assert any("refused: 6.12" in line for line in said["log"])


def test_allow_unproved_taints_and_features_says_so(said: dict[str, list[str]]) -> None:
    code, taint, features = said["unproved"]
    assert code == "exit 0"
    assert int(taint) & 1 << 6  # TAINT_USER
    assert json.loads(features)["module"]["proved_kernel"] is False
    assert any("allow_unproved=1, the kernel is tainted" in line for line in said["log"])


def test_a_module_of_another_abi(said: dict[str, list[str]]) -> None:
    message, code = said["abi"]
    assert code == "exit 1"
    assert "99" in message


def test_mode_of_the_device(said: dict[str, list[str]]) -> None:
    assert said["mode"] == ["600"]
    assert said["badmode"][-1] == "exit 1"
    assert any("mode=01777 is not a file mode" in line for line in said["log"])


def test_a_module_in_use_stays(said: dict[str, list[str]]) -> None:
    assert [line for line in said["busy"] if line.startswith("exit")] == ["exit 1", "exit 0"]
