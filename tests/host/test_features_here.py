# SPDX-License-Identifier: MIT
"""Tests of the command and the package on the machine that runs the tests."""

import errno
import gzip
import json
import mmap
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import cleanup
from cleanup import _uapi, probe

COMMAND = Path(sys.executable).with_name("pgtable-cleanup")
no_module = pytest.mark.skipif(
    Path(_uapi.DEVICE).exists(), reason=f"the module is loaded: there is {_uapi.DEVICE}"
)


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([COMMAND, *arguments], capture_output=True, text=True, check=False)


@no_module
def test_features_says_why_the_module_is_not_there() -> None:
    result = run("features", "--json")
    assert (result.returncode, result.stderr) == (0, "")
    document = json.loads(result.stdout)
    assert document["kernel"] == os.uname().release
    assert document["module"] is None
    method = document["methods"]["module"]
    assert not method["works"]
    assert method["reasons"][0] == f"the module is not loaded: there is no {_uapi.DEVICE}"
    assert method["reasons"][1:] == document["module_obstacles"]
    if not Path("/proc/modules").exists():
        assert any("/proc/modules" in reason for reason in method["reasons"])
    assert document["methods"]["none"]["works"]
    assert document["methods"]["zap"]["works"] == document["pt_reclaim"]


@no_module
@pytest.mark.parametrize("arguments", [("scan", "1"), ("reclaim", "--json", "1")], ids=" ".join)
def test_without_the_module_the_message_says_what_to_do(arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert result.returncode == 1
    if "--json" in arguments:
        error = json.loads(result.stdout)["error"]
        assert error["errno"] == "ENOENT"
        assert error["message"].startswith(f"{_uapi.DEVICE} is not there")
        assert "insmod" in error["hint"]
    else:
        assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"pgtable-cleanup: {_uapi.DEVICE} is not there")
    assert "insmod" in line
    assert "lab shell" in line


@no_module
def test_without_the_module_python_gets_file_not_found() -> None:
    with pytest.raises(FileNotFoundError) as caught:
        cleanup.reclaim(bytearray(1))
    assert isinstance(caught.value, cleanup.ModuleMissing)
    assert caught.value.errno == errno.ENOENT


def test_the_command_starts_without_the_heavy_libraries() -> None:
    code = (
        "import sys; from cleanup.commands import main;"
        "main(['scan', '-h'], standalone_mode=False);"
        "sys.exit(bool({'matplotlib', 'numpy', 'jinja2', 'cleanup.lab'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-P", "-c", code], check=True, capture_output=True)


def test_page_tables_agrees_with_proc() -> None:
    code = "print('ready', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        os.kill(child.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, child.pid, os.WSTOPPED)
        tables = cleanup.page_tables(child.pid)
        status = Path(f"/proc/{child.pid}/status").read_text()
        os.kill(child.pid, signal.SIGCONT)
    sizes = {
        line.split()[0]: int(line.split()[1]) * 1024
        for line in status.splitlines()
        if line.endswith(" kB")
    }
    assert tables == cleanup.PageTables(
        child.pid, sizes["VmPTE:"], sizes["VmRSS:"], sizes["VmSize:"]
    )
    assert tables.vmsize_bytes > tables.rss_bytes > tables.vmpte_bytes > 0


def test_page_tables_sees_the_tables_of_touched_memory() -> None:
    unit, units = 2 << 20, 64
    with mmap.mmap(-1, units * unit, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory.madvise(mmap.MADV_NOHUGEPAGE)
        before = cleanup.page_tables()
        for offset in range(0, units * unit, unit):
            memory[offset] = 1
        after = cleanup.page_tables()
    grown = after.vmpte_bytes - before.vmpte_bytes
    assert (units - 1) * mmap.PAGESIZE <= grown <= (units + 4) * mmap.PAGESIZE


def test_page_tables_of_no_process() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    with pytest.raises(cleanup.ProcessGone, match="no such process"):
        cleanup.page_tables(child.pid)


def test_page_tables_of_a_zombie_are_none() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert cleanup.page_tables(child.pid) == cleanup.PageTables(child.pid, 0, 0, 0)
    child.wait()


def test_the_kernel_does_not_know_the_advice() -> None:
    with mmap.mmap(-1, mmap.PAGESIZE) as memory, pytest.raises(OSError, match="nvalid") as caught:
        _uapi.madvise(_uapi.address_of(memory), mmap.PAGESIZE, _uapi.MADV_CLEANUP_PGTABLE)
    assert caught.value.errno == errno.EINVAL
    assert not probe.kernel_knows_advice()


def configuration() -> str | None:
    """Return the kernel's configuration, or None where the kernel does not show it."""
    packed, unpacked = Path("/proc/config.gz"), Path(f"/boot/config-{os.uname().release}")
    if packed.exists():
        return gzip.decompress(packed.read_bytes()).decode()
    return unpacked.read_text() if unpacked.exists() else None


@pytest.mark.skipif(configuration() is None, reason="the kernel does not tell its configuration")
def test_the_trial_agrees_with_the_configuration() -> None:
    assert probe.dontneed_frees_tables() == ("CONFIG_PT_RECLAIM=y" in str(configuration()))


def test_a_remapping_frees_the_tables_on_every_kernel() -> None:
    assert probe.remap_frees_tables()


def test_madvise_passes_the_advice_on() -> None:
    with mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory[0] = 1
        _uapi.madvise(_uapi.address_of(memory), mmap.PAGESIZE, mmap.MADV_DONTNEED)
        assert memory[0] == 0
