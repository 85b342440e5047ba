# SPDX-License-Identifier: MIT
"""What runs inside the guest: an initramfs with busybox, the kernel modules needed and two scripts.

The first script mounts the host's root, read-only over 9p, under the guest's own ``/dev``,
``/proc``, ``/sys``, ``/run``, ``/tmp`` and ``/lib/modules``, and gives way to the second, which
runs the command.  Nothing of it is a file on the host.

Talk with the host goes over virtio-serial ports, so that the serial console is the kernel's alone:
the command's stdout and stderr, the kernel's log at the end, and a control port on which the guest
says ``ready UPTIME``, ``exit CODE UPTIME`` or ``failed REASON``, and the host when to power off.
"""

import io
import lzma
import os
import re
import shlex
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cleanup.lab.errors import LabError
from cleanup.lab.kernels import Kernel

# The numbers of the virtio-serial ports; 0 is the interactive console's.
CONSOLE, CONTROL, STDOUT, STDERR, LOG = range(5)

RESULTS = "/run/results"
SCRATCH = "/run/scratch"
# File systems of the guest's own: what lies below them on the host is not seen.
COVERED = ("/dev", "/proc", "/run", "/sys", "/tmp")  # noqa: S108

MODULES = ("virtio_pci", "virtio_console", "9p", "9pnet_virtio", "overlay")
DISK_MODULES = ("virtio_blk", "ext4", "crc32c_generic")

MOUNT_9P = "trans=virtio,version=9p2000.L,msize=512000"

# The read-only overlay adds the mount point of the modules to the host's root, which may lack it.
FIRST = """\
#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for module in $(cat /modules); do insmod /lib/$module || echo "lab: cannot load $module"; done
mkdir -p /host /root$MODULES /new
# The kernel made /root 0700; here it is the root directory of every user.
chmod 755 /root
mount -t 9p -o ro,$MOUNT_9P,cache=loose host /host || echo "lab: cannot mount the host's root"
mount -t overlay -o ro,lowerdir=/root:/host overlay /new || echo "lab: cannot mount the root"
mount -t proc proc /new/proc
mount -t sysfs sys /new/sys
mount -t devtmpfs dev /new/dev
mkdir -p /new/dev/pts /new/dev/shm
ln -s /proc/self/fd /new/dev/fd
ln -s /proc/self/fd/0 /new/dev/stdin
ln -s /proc/self/fd/1 /new/dev/stdout
ln -s /proc/self/fd/2 /new/dev/stderr
mount -t devpts -o ptmxmode=666 pts /new/dev/pts
mount -t tmpfs -o mode=1777 shm /new/dev/shm
mount -t tmpfs -o mode=755 run /new/run
mount -t tmpfs -o mode=1777 tmp /new/tmp
mount --bind "/host$HOST_MODULES" /new$MODULES
echo "$BINDS" | while IFS= read -r path; do
    [ -n "$path" ] || continue
    mkdir -p "/new${path%/*}"
    if [ -d "/host$path" ]; then mkdir -p "/new$path"; else touch "/new$path"; fi
    mount --bind "/host$path" "/new$path"
done
mkdir -p /new/run/lab /new/run/home
mkdir /new/run/lab/bin
cp /bin/busybox /new/run/lab/bin
cp /lab/* /new/run/lab
/new/run/lab/bin/busybox --install -s /new/run/lab/bin
exec switch_root /new /run/lab/second
"""

# Stragglers are killed so that the streams end: what they write after the command's end is lost.
SECOND = """\
#!/run/lab/bin/busybox sh
export PATH=/run/lab/bin
. /run/lab/settings
exec 3<>/dev/vport0p$CONTROL
finish() {
    printf %s $TOKEN >/dev/vport0p$STDOUT
    printf %s $TOKEN >/dev/vport0p$STDERR
    { dmesg; printf %s $TOKEN; } >/dev/vport0p$LOG
    read -r _ <&3
    poweroff -f
}
fail() { echo "failed $*" >&3; finish; }
uptime() { cut -d" " -f1 /proc/uptime; }
mount -t debugfs debugfs /sys/kernel/debug
mount -t tracefs tracefs /sys/kernel/tracing
mount -t cgroup2 cgroup2 /sys/fs/cgroup
[ -x /sbin/modprobe ] || echo /run/lab/bin/modprobe >/proc/sys/kernel/modprobe
ifconfig lo 127.0.0.1
hostname lab
if [ "$SCRATCH" ]; then
    mkdir -p "$SCRATCH"
    mount -t ext4 /dev/vda "$SCRATCH" || fail "cannot mount the scratch disk"
fi
if [ "$RESULTS" ]; then
    mkdir -p "$RESULTS"
    mount -t 9p -o $MOUNT_9P,cache=none results "$RESULTS" || fail "cannot mount the results"
fi
if [ -e /run/lab/module.ko ]; then
    insmod /run/lab/module.ko $MODULE_ARGS || fail "the kernel refused the module"
fi
mkfifo /run/lab/stdout /run/lab/stderr
cat /run/lab/stdout >/dev/vport0p$STDOUT & relays=$!
cat /run/lab/stderr >/dev/vport0p$STDERR & relays="$relays $!"
echo "ready $(uptime)" >&3
if [ "$SHELL_ROWS" ]; then
    stty -F /dev/hvc0 rows $SHELL_ROWS cols $SHELL_COLUMNS
    setsid -c /bin/sh /run/lab/command </dev/hvc0 >/dev/hvc0 2>&1 3>&-
    code=$?
    : >/run/lab/stdout 2>/run/lab/stderr
else
    /bin/sh /run/lab/command </dev/null >/run/lab/stdout 2>/run/lab/stderr 3>&-
    code=$?
fi
echo "exit $code $(uptime)" >&3
for process in /proc/[0-9]*; do
    pid=${process#/proc/}
    case " 1 $relays " in *" $pid "*) continue ;; esac
    # The kernel's own threads have none.
    [ -e $process/exe ] && kill -9 $pid
done 2>/run/lab/kill.log
wait $relays
finish
"""

COMMAND = """\
cd {cwd} || exit
export {environment}
ulimit -c 0
exec {command}
"""


@dataclass(frozen=True)
class Guest:
    """What one boot is for."""

    kernel: Kernel
    busybox: Path
    command: Sequence[str]
    cwd: Path
    environment: Mapping[str, str]
    token: str
    """Ends each stream; random, so that no command writes it by chance."""
    module: Path | None = None
    module_args: Sequence[str] = ()
    visible: Sequence[Path] = ()
    """Directories of the host to be seen even below COVERED."""
    disk: bool = False
    results: bool = False
    shell_size: tuple[int, int] | None = None
    """Rows and columns of the terminal; None: not interactive."""


def initramfs(guest: Guest) -> bytes:
    """The guest's initramfs, a cpio archive."""
    archive = _Archive()
    for directory in ("bin", "dev", "lab", "lib", "proc", "sys"):
        archive.add(directory, stat.S_IFDIR | 0o755)
    archive.add("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
    archive.add("bin/busybox", stat.S_IFREG | 0o755, guest.busybox.read_bytes())
    names = []
    wanted = MODULES + (DISK_MODULES if guest.disk else ())
    for path in load_order(guest.kernel.modules, wanted):
        name = re.sub(r"\.ko.*", ".ko", path.name)
        archive.add(f"lib/{name}", stat.S_IFREG | 0o644, _module(path))
        names.append(name)
    archive.add("modules", stat.S_IFREG | 0o644, "\n".join(names).encode())
    archive.add("init", stat.S_IFREG | 0o755, _script(FIRST, _first_settings(guest)))
    archive.add("lab/second", stat.S_IFREG | 0o755, SECOND.encode())
    archive.add("lab/settings", stat.S_IFREG | 0o644, _settings(_second_settings(guest)))
    archive.add("lab/command", stat.S_IFREG | 0o644, _command(guest).encode())
    if guest.module:
        archive.add("lab/module.ko", stat.S_IFREG | 0o644, guest.module.read_bytes())
    return archive.finish()


def load_order(modules: Path, names: Sequence[str]) -> list[Path]:
    """The named modules with all they need, each after what it needs; built-in ones left out.

    Raises LabError if the kernel lacks one of them.
    """
    needs = {}
    for line in (modules / "modules.dep").read_text().splitlines():
        path, _, rest = line.partition(":")
        needs[path] = rest.split()
    by_name = {_name(path): path for path in needs}
    builtin = {_name(path) for path in (modules / "modules.builtin").read_text().splitlines()}
    # modules.dep lists all that a module needs, the last needed first.
    order: dict[str, None] = {}
    for name in names:
        if name in by_name:
            order.update(dict.fromkeys([*reversed(needs[by_name[name]]), by_name[name]]))
        elif name not in builtin and name not in OPTIONAL:
            raise LabError(f"the kernel of {modules} has no {name}: a cloud kernel can't serve")
    return [modules / path for path in order]


# Built in, split up or gone in newer kernels.
OPTIONAL = ("crc32c_generic",)


def _name(path: str) -> str:
    return Path(path).name.partition(".")[0].replace("-", "_")


def _module(path: Path) -> bytes:
    content = path.read_bytes()
    if path.suffix == ".xz":
        return lzma.decompress(content)
    if path.suffix != ".ko":
        raise LabError(f"cannot unpack {path}: kernel modules must be plain or .xz")
    return content


def _covered(path: Path) -> bool:
    return any(path.is_relative_to(top) and str(path) != top for top in COVERED)


def _first_settings(guest: Guest) -> dict[str, str]:
    binds = dict.fromkeys(str(path) for path in guest.visible if _covered(path))
    # Where /lib/modules is on the host: /lib may be a link.
    library = os.path.realpath("/lib")
    return {
        "MODULES": f"{library}/modules/{guest.kernel.release}",
        "HOST_MODULES": str(guest.kernel.modules.resolve()),
        "BINDS": "\n".join(binds),
        "MOUNT_9P": MOUNT_9P,
    }


def _second_settings(guest: Guest) -> dict[str, str]:
    rows, columns = guest.shell_size or ("", "")
    return {
        "CONTROL": str(CONTROL),
        "STDOUT": str(STDOUT),
        "STDERR": str(STDERR),
        "LOG": str(LOG),
        "MOUNT_9P": MOUNT_9P,
        "SCRATCH": SCRATCH if guest.disk else "",
        "RESULTS": RESULTS if guest.results else "",
        "MODULE_ARGS": " ".join(guest.module_args),
        "SHELL_ROWS": str(rows),
        "SHELL_COLUMNS": str(columns),
        "TOKEN": guest.token,
    }


def _settings(values: Mapping[str, str]) -> bytes:
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items()).encode()


def _script(text: str, values: Mapping[str, str]) -> bytes:
    first, _, rest = text.partition("\n")
    return f"{first}\n".encode() + _settings(values) + rest.encode()


def _command(guest: Guest) -> str:
    environment = " ".join(
        f"{name}={shlex.quote(text)}" for name, text in guest.environment.items()
    )
    return COMMAND.format(
        cwd=shlex.quote(str(guest.cwd)),
        environment=environment,
        command=shlex.join(guest.command),
    )


class _Archive:
    """A cpio archive in the format that the kernel unpacks ("newc")."""

    def __init__(self) -> None:
        self._file = io.BytesIO()
        self._inode = 0

    def add(
        self, name: str, mode: int, content: bytes = b"", device: tuple[int, int] = (0, 0)
    ) -> None:
        self._inode += 1
        path = name.encode() + b"\0"
        fields = (self._inode, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(path), 0)
        header = b"070701" + b"".join(b"%08x" % value for value in fields)
        for part in (header + path, content):
            self._file.write(part + b"\0" * (-len(part) % 4))

    def finish(self) -> bytes:
        self.add("TRAILER!!!", 0)
        return self._file.getvalue()
