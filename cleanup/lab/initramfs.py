# SPDX-License-Identifier: MIT
"""What runs inside the guest: an initramfs with busybox, kernel modules and two scripts.

The first script mounts the host's root, read-only over 9p, under the guest's own ``/dev``,
``/proc``, ``/sys``, ``/run``, ``/tmp`` and ``/lib/modules``, and gives way to the second, which
runs the commands that the host sends.  Neither script is a file on the host.

The guest and the host talk over virtio-serial ports, so that the serial console is the kernel's
alone.  One line of the control port is one message:

=========  ===================  ==================================================
from       message              meaning
=========  ===================  ==================================================
guest      ready UPTIME         the guest has booted; its log has been sent
guest      failed REASON        the guest can't serve
host       run TOKEN KEEP       run the shell script that follows, up to a NUL
guest      started UPTIME       the script starts
guest      exit CODE UPTIME     the script has ended
host       off                  power off
=========  ===================  ==================================================

The other ports carry a command's stdout, its stderr, and what the kernel has logged since the last
command.  The command's token ends each of the three; the guest sends the log last.
"""

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

# The numbers of the virtio-serial ports. The scripts have each as a variable in capitals, such as
# $CONTROL. The interactive console has number 0.
PORTS = {"control": 1, "stdout": 2, "stderr": 3, "log": 4}

RESULTS = "/run/results"
SCRATCH = "/run/scratch"
HOME = "/run/home"
# These directories are emptied before a command, so that it finds nothing of the last one.
CLEANED = ("/tmp", "/dev/shm", HOME)  # noqa: S108
# The guest has file systems of its own here: what lies below them on the host is not seen.
COVERED = ("/dev", "/proc", "/run", "/sys", "/tmp")  # noqa: S108

MODULES = ("virtio_pci", "virtio_console", "9p", "9pnet_virtio", "overlay")
DISK_MODULES = ("virtio_blk", "ext4", "crc32c_generic")

MOUNT_9P = "trans=virtio,version=9p2000.L,msize=512000"

# The read-only overlay adds the mount point of the modules to the host's root, which may lack it.
FIRST = """\
#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
. /lab/settings
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

# The host's shell runs commands: busybox's would prefer its own applets to the host's programs.
#
# A command's stragglers are killed so that they neither hold its streams open nor live on beside
# the next command.  The children of a process that ends become init's, which is this script, before
# the process is a zombie: so once all of init's children are known zombies, no process is left.
# Reading a FIFO until its last writer is gone gets all that they wrote.
#
# Cleaning leaves out the host's files that are mounted below /tmp (read-only): they can be many.
# With -depth busybox's find would enter them, even under -xdev.
SECOND = """\
#!/run/lab/bin/busybox sh
export PATH=/run/lab/bin
. /run/lab/settings
exec 3<>/dev/vport0p$CONTROL
tell() {
    read -r uptime _ </proc/uptime
    echo "$* $uptime" >&3
}
send_log() { { dmesg -c; printf %s $token; } >/dev/vport0p$LOG; }
fail() {
    echo "failed $*" >&3
    send_log
    read -r _ <&3
    poweroff -f
}
run() {
    cat /run/lab/stdout >/dev/vport0p$STDOUT & relays=$!
    cat /run/lab/stderr >/dev/vport0p$STDERR & relays="$relays $!"
    tell started
    if [ "$SHELL_ROWS" ]; then
        stty -F /dev/hvc0 rows $SHELL_ROWS cols $SHELL_COLUMNS
        setsid -c /bin/sh -c "$script" </dev/hvc0 >/dev/hvc0 2>&1 3>&-
        code=$?
        : >/run/lab/stdout 2>/run/lab/stderr
    else
        /bin/sh -c "$script" </dev/null >/run/lab/stdout 2>/run/lab/stderr 3>&-
        code=$?
    fi
    tell exit $code
    kill_stragglers 2>/run/lab/kill.log
    wait $relays
    printf %s $token >/dev/vport0p$STDOUT
    printf %s $token >/dev/vport0p$STDERR
}
kill_stragglers() {
    gone=" $relays "
    new=1
    while [ $new ]; do
        new=
        read -r children </proc/1/task/1/children
        for pid in $children; do
            case "$gone" in *" $pid "*) continue ;; esac
            new=1
            read -r status </proc/$pid/stat || continue
            case "${status##*) }" in
                Z*) gone="$gone$pid " ;;
                *) kill -9 $pid; sleep 0.02 ;;
            esac
        done
    done
}
clean() {
    find $CLEANED -xdev -mindepth 1 ! -type d -exec rm -f {} + -o -type d -print0 >/run/lab/dirs
    [ ! -s /run/lab/dirs ] || sort -rz /run/lab/dirs | xargs -0r rmdir
}
token=$TOKEN
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
send_log
tell ready
while read -r order token keep <&3; do
    [ "$order" = run ] || break
    IFS= read -r -d "" script <&3
    [ "$keep" = 1 ] || clean 2>/run/lab/clean.log
    run
    send_log
done
poweroff -f
"""


def script(command: Sequence[str], cwd: Path, environment: Mapping[str, str]) -> bytes:
    """Write the shell script that runs a command."""
    exported = " ".join(f"{name}={shlex.quote(value)}" for name, value in environment.items())
    return (
        f"cd {shlex.quote(str(cwd))} || exit\n"
        f"export {exported}\n"
        "ulimit -c 0\n"
        f"exec {shlex.join(command)}\n"
    ).encode()


@dataclass(frozen=True)
class Contents:
    """The parts of one guest's initramfs, and the settings of its scripts."""

    kernel: Kernel
    busybox: Path
    module: Path | None = None
    module_args: Sequence[str] = ()
    visible: Sequence[Path] = ()
    """Files and directories of the host that are seen even below COVERED."""
    disk: bool = False
    results: bool = False
    shell_size: tuple[int, int] | None = None
    """The terminal's rows and columns; None without a terminal."""


def initramfs(contents: Contents, token: str) -> bytes:
    """Make the guest's initramfs, a cpio archive; the guest ends the boot's log with the token."""
    wanted = MODULES + (DISK_MODULES if contents.disk else ())
    modules = {
        re.sub(r"\.ko.*", ".ko", path.name): _module(path)
        for path in load_order(contents.kernel.modules, wanted)
    }
    programs = {
        "bin/busybox": contents.busybox.read_bytes(),
        "init": FIRST.encode(),
        "lab/second": SECOND.encode(),
    }
    files = {f"lib/{name}": content for name, content in modules.items()}
    files["modules"] = "\n".join(modules).encode()
    files["lab/settings"] = _settings(contents, token)
    if contents.module:
        files["lab/module.ko"] = contents.module.read_bytes()
    directories = ("bin", "dev", "lab", "lib", "proc", "sys")
    return _cpio(
        [
            *((name, stat.S_IFDIR | 0o755, b"") for name in directories),
            ("dev/console", stat.S_IFCHR | 0o600, b""),
            *((name, stat.S_IFREG | 0o755, content) for name, content in programs.items()),
            *((name, stat.S_IFREG | 0o644, content) for name, content in files.items()),
        ]
    )


def load_order(modules: Path, names: Sequence[str]) -> list[Path]:
    """Return the named modules and those they need, in the order to load them.

    Built-in modules are left out.  Raises LabError if the kernel lacks a module.
    """
    needs = {}
    for line in (modules / "modules.dep").read_text().splitlines():
        path, _, rest = line.partition(":")
        needs[path] = rest.split()
    by_name = {_name(path): path for path in needs}
    builtin = {_name(path) for path in (modules / "modules.builtin").read_text().splitlines()}
    # modules.dep lists all that a module needs, in the reverse order of loading.
    order: dict[str, None] = {}
    for name in names:
        if name in by_name:
            order.update(dict.fromkeys([*reversed(needs[by_name[name]]), by_name[name]]))
        elif name not in builtin and name not in OPTIONAL:
            raise LabError(f"the kernel of {modules} has no {name}: a cloud kernel can't serve")
    return [modules / path for path in order]


# Newer kernels may lack these modules, as they are built in, split up or gone.
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


def _settings(contents: Contents, token: str) -> bytes:
    """Set the variables that the two scripts use."""
    binds = dict.fromkeys(
        str(path)
        for path in contents.visible
        if any(path.is_relative_to(top) and str(path) != top for top in COVERED)
    )
    rows, columns = contents.shell_size or ("", "")
    values = {
        # The real path of /lib/modules on the host, where /lib may be a link.
        "MODULES": f"{os.path.realpath('/lib')}/modules/{contents.kernel.release}",
        "HOST_MODULES": str(contents.kernel.modules.resolve()),
        "BINDS": "\n".join(binds),
        "MOUNT_9P": MOUNT_9P,
        **{name.upper(): str(number) for name, number in PORTS.items()},
        "CLEANED": " ".join(CLEANED),
        "SCRATCH": SCRATCH if contents.disk else "",
        "RESULTS": RESULTS if contents.results else "",
        "MODULE_ARGS": " ".join(contents.module_args),
        "SHELL_ROWS": str(rows),
        "SHELL_COLUMNS": str(columns),
        "TOKEN": token,
    }
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items()).encode()


def _cpio(members: Sequence[tuple[str, int, bytes]]) -> bytes:
    """Make an archive in the format that the kernel unpacks ("newc"), of names, modes, contents."""
    archive = bytearray()
    for inode, (name, mode, content) in enumerate([*members, ("TRAILER!!!", 0, b"")], start=1):
        path = name.encode() + b"\0"
        # The console (5, 1) is the only device.
        device = (5, 1) if stat.S_ISCHR(mode) else (0, 0)
        fields = (inode, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(path), 0)
        header = b"070701" + b"".join(b"%08x" % value for value in fields)
        for part in (header + path, content):
            archive += part + b"\0" * (-len(part) % 4)
    return bytes(archive)
