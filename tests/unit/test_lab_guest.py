# SPDX-License-Identifier: MIT
"""Tests of what goes into a guest and comes out of it, without booting one."""

import subprocess
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cleanup.lab import GuestResult, LabError
from cleanup.lab.exchange import Stream
from cleanup.lab.guest import Guest
from cleanup.lab.initramfs import Contents, initramfs, load_order, script
from cleanup.lab.kernels import Kernel, kernel_in
from cleanup.lab.machine import Emulator, Machine

TOKEN = "0123456789abcdef" * 2


def made_result(**changed: Any) -> GuestResult:  # noqa: ANN401
    """Make up the result of a command that ended well after ten seconds and printed nothing."""
    result = GuestResult(
        exit_code=0,
        stdout=b"",
        stderr=b"",
        console="",
        dmesg="",
        kernel_release="6.12.95",
        accelerator="tcg",
        boot_seconds=5.0,
        seconds=10.0,
        guest_seconds=10.1,
        results=None,
    )
    return replace(result, **changed)


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    """Return a kernel whose directory has the files of extracted kernel packages."""
    modules = tmp_path / "usr/lib/modules/6.12.1-amd64"
    files = ["virtio/virtio.ko", "virtio/virtio_pci.ko", "fs/9p.ko", "net/9pnet.ko"]
    files += ["net/9pnet_virtio.ko", "fs/overlay.ko", "fs/ext4.ko", "block/virtio_blk.ko"]
    for file in files:
        path = modules / "kernel" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.encode())
    (modules / "modules.dep").write_text(
        "kernel/virtio/virtio.ko:\n"
        "kernel/virtio/virtio_pci.ko: kernel/virtio/virtio.ko\n"
        "kernel/net/9pnet.ko:\n"
        "kernel/fs/9p.ko: kernel/net/9pnet.ko\n"
        "kernel/net/9pnet_virtio.ko: kernel/net/9pnet.ko kernel/virtio/virtio.ko\n"
        "kernel/fs/overlay.ko:\n"
    )
    (modules / "modules.builtin").write_text("kernel/drivers/char/virtio_console.ko\n")
    (tmp_path / "boot").mkdir()
    (tmp_path / "boot/vmlinuz-6.12.1-amd64").touch()
    return kernel_in(str(tmp_path), tmp_path)


def test_a_directory_with_extracted_packages_is_a_kernel(kernel: Kernel) -> None:
    assert kernel.release == "6.12.1-amd64"
    assert kernel.vmlinuz == kernel.tree / "boot/vmlinuz-6.12.1-amd64"


def test_a_kernel_lacks_its_index(kernel: Kernel) -> None:
    (kernel.modules / "modules.dep").unlink()
    with pytest.raises(LabError, match="run depmod -b"):
        kernel_in("x", kernel.tree)


def test_no_kernel_in_a_directory(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="no kernel in"):
        kernel_in("x", tmp_path)


def test_each_module_comes_after_what_it_needs(kernel: Kernel) -> None:
    wanted = ("virtio_pci", "virtio_console", "9p", "9pnet_virtio")
    names = [path.stem for path in load_order(kernel.modules, wanted)]
    assert names == ["virtio", "virtio_pci", "9pnet", "9p", "9pnet_virtio"]


def test_a_kernel_without_9p_is_refused(kernel: Kernel) -> None:
    with pytest.raises(LabError, match="no squashfs: a cloud kernel"):
        load_order(kernel.modules, ("squashfs",))


def test_the_archive_is_one_that_cpio_unpacks(kernel: Kernel, tmp_path: Path) -> None:
    busybox = tmp_path / "busybox"
    busybox.write_bytes(b"\x7fELF odd")
    module = tmp_path / "pgtable_cleanup.ko"
    module.write_bytes(b"module")
    contents = Contents(kernel=kernel, busybox=busybox, module=module)
    members = unpacked(initramfs(contents, TOKEN))
    assert members["bin/busybox"] == (0o100755, b"\x7fELF odd")
    assert members["lab/module.ko"] == (0o100644, b"module")
    assert members["dev"][0] == 0o40755
    assert members["dev/console"][0] == 0o20600
    assert members["lib/9p.ko"][1] == b"fs/9p.ko"
    assert members["modules"][1].split()[0] == b"virtio.ko"
    assert f"TOKEN={TOKEN}" in members["lab/settings"][1].decode()


def test_a_command_gets_its_words_its_environment_and_its_directory(tmp_path: Path) -> None:
    command = ["sh", "-c", 'pwd; echo "$A,$B"; printf "%s\\n" "$@"', "it's $HOME", "two words"]
    written = script(["env", *command], tmp_path, {"A": "a 'b' $c", "B": ""})
    said = subprocess.run(["/bin/sh"], input=written, capture_output=True, check=True)
    assert said.stdout.decode().splitlines() == [str(tmp_path), "a 'b' $c,", "two words"]


def unpacked(archive: bytes) -> dict[str, tuple[int, bytes]]:
    """Return the mode and content of each member of an archive in the format of the kernel's
    Documentation/driver-api/early-userspace/buffer-format.rst."""
    members: dict[str, tuple[int, bytes]] = {}
    at = 0
    while True:
        assert archive[at : at + 6] == b"070701"
        fields = [int(archive[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        mode, size, name_size = fields[1], fields[6], fields[11]
        name = archive[at + 110 : at + 109 + name_size].decode()
        assert archive[at + 109 + name_size] == 0
        start = at + 110 + name_size
        start += -start % 4
        if name == "TRAILER!!!":
            return members
        members[name] = mode, archive[start : start + size]
        at = start + size
        at += -at % 4


@given(
    content=st.binary(max_size=40) | st.just(TOKEN[:-1].encode()),
    after=st.binary(max_size=5),
    cuts=st.lists(st.integers(1, 80), max_size=5),
)
def test_a_stream_ends_at_its_token_however_it_is_cut(
    content: bytes, after: bytes, cuts: list[int]
) -> None:
    passed_on: list[bytes] = []
    stream = Stream(TOKEN, passed_on.append)
    whole = content + TOKEN.encode() + after
    edges = [0, *sorted(cuts), len(whole)]
    for start, end in pairwise(edges):
        stream.feed(whole[start:end])
    assert stream.ended
    assert bytes(stream.content) == content
    assert b"".join(passed_on) == content


def test_what_cannot_be_the_token_is_passed_on_at_once() -> None:
    passed_on: list[bytes] = []
    Stream(TOKEN, passed_on.append).feed(b"progress 012")
    assert passed_on == [b"progress "]


OOPS = "[    1.592080] Oops: int3: 0000 [#1] SMP NOPTI\n"
WILD = (
    "[    2.1] BUG: KASAN: wild-memory-access in do_raw_spin_lock+0x10c/0x240\n"
    "[    2.1]  common_interrupt+0x7c/0x90\n[    2.1] RIP: 0010:identify_cpu+0x2c4/0x1910\n"
)
LOADED = "[    1.5] pgtable_cleanup: loading out-of-tree module taints kernel.\n"


def failed_boot(
    console: str, messages: list[str], *, hung: bool = False, qemu_crashed: bool = False
) -> Guest:
    """Make a guest without a QEMU whose boot failed after these messages."""
    kernel = Kernel("x", "x", Path(), Path(), Path())
    guest = Guest(kernel, Machine(), Emulator((10,), "tcg"), writable=None, check_dmesg=True)
    guest._console.extend(console.encode())
    for message in messages:
        guest._exchange.hear(message)
    guest._hung = hung
    guest._crashed = qemu_crashed
    return guest


@pytest.mark.parametrize(
    ("console", "messages", "unlucky"),
    [
        (OOPS, [], True),
        ("[    1.6] int3: 0000 [#1] PREEMPT SMP NOPTI\n", [], True),
        ("[    1.6] Oops: general protection fault: 0000 [#1] SMP\n", [], False),
        (WILD, [], True),
        (WILD.replace("identify_cpu", "pgtc_scan"), [], False),
        (LOADED + OOPS, [], False),
        (LOADED + WILD, [], False),
        (OOPS, ["ready 3.2"], False),
        ("", [], False),
    ],
    ids=[
        "7.3",
        "6.1",
        "another oops",
        "5-level paging forgotten",
        "another wild access",
        "after the module",
        "likewise",
        "after the boot",
        "nothing",
    ],
)
def test_only_two_mishaps_before_the_module_are_bad_luck(
    console: str, messages: list[str], unlucky: bool
) -> None:
    """Two known faults of QEMU and Linux only cost a new boot; any other bug must fail the run."""
    assert failed_boot(console, messages).unlucky == unlucky


@pytest.mark.parametrize(("console", "unlucky"), [("", True), (LOADED, False)])
def test_a_hang_before_the_module_is_bad_luck(console: str, unlucky: bool) -> None:
    """A boot that hangs once the module is loaded must fail the run: the module may be at fault."""
    assert failed_boot(console, [], hung=True).unlucky == unlucky


@pytest.mark.parametrize(
    ("console", "messages", "unlucky"),
    [("", [], True), (LOADED, [], False), ("", ["ready 3.2"], False)],
)
def test_a_crash_of_qemu_is_bad_luck_only_while_it_boots(
    console: str, messages: list[str], unlucky: bool
) -> None:
    """A command that has begun is not run twice."""
    assert failed_boot(console, messages, qemu_crashed=True).unlucky == unlucky


@pytest.mark.parametrize(
    ("seconds", "guest_seconds", "icount", "ok"),
    [
        (2.0, 2.5, False, True),
        (2.0, 2.7, False, False),
        (2.0, 1.3, False, False),
        (100.0, 105.0, False, True),
        (100.0, 106.0, False, False),
        (100.0, 3.0, True, True),
    ],
)
def test_a_clock_that_strays_is_told(
    seconds: float, guest_seconds: float, icount: bool, ok: bool
) -> None:
    """The guest's clock may stray by 0.5 s plus 5 %, or freely where it counts instructions."""
    result = made_result(seconds=seconds, guest_seconds=guest_seconds, icount=icount)
    assert result.clock_ok == ok
