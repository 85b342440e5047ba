#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Install the Debian packages that this project needs on the host; this is the one
# list of them.  Without root, print the command that installs the missing ones.
#
#   tools/system-packages.sh [PYTHON]
set -eu

python=${1:-python3}
missing=

# need PACKAGE COMMAND...: take the package for missing if the command fails.
need() {
	package=$1
	shift
	"$@" >/dev/null 2>&1 || missing="$missing $package"
}

# Debian keeps some of them where only root's PATH looks.
PATH=$PATH:/usr/sbin:/sbin

if ! command -v apt-get >/dev/null; then
	echo "apt-get not found: this project needs a Debian machine, or one like it" >&2
	exit 1
fi

# Find a Debian mirror as cleanup/lab/packages.py does, to fail before any work.
releases='(oldoldstable|oldstable|stable|testing|unstable|sid|bookworm|trixie|forky|duke)'
if [ -z "${PGTABLE_CLEANUP_MIRROR:-}" ] && ! apt-get update --print-uris |
	grep -Eq "^'[a-z+]*(http|https|ftp|file|copy):.*/dists/$releases(-updates|-backports)?/main/"; then
	echo "this host's apt has no Debian mirror: let PGTABLE_CLEANUP_MIRROR name one" \
		"(http://HOST/debian) and install debian-archive-keyring" >&2
	exit 1
fi

# The Python environment and its extensions in C.
need gcc command -v gcc
need libc6-dev test -e /usr/include/stdio.h
need linux-libc-dev test -e /usr/include/linux/ioctl.h
need python3 "$python" -c ''
need python3-venv "$python" -c 'import ensurepip'
need python3-dev "$python" -c '
import os, sysconfig
os.stat(os.path.join(sysconfig.get_path("include"), "Python.h"))'

# The lab.
need qemu-system-x86 command -v qemu-system-x86_64
need bubblewrap command -v bwrap
need debian-archive-keyring test -e /usr/share/keyrings/debian-archive-keyring.gpg
need dpkg command -v dpkg-deb
need e2fsprogs command -v mkfs.ext4
need util-linux command -v setpriv
# Guests see the host's programs; their tests load the kernel's modules.
need kmod command -v modprobe

# Allocators for the tests.
need libjemalloc2 sh -c 'ldconfig -p | grep -q libjemalloc.so.2'
need libtcmalloc-minimal4 sh -c 'ldconfig -p | grep -q libtcmalloc_minimal.so.4'
need libmimalloc2.0 sh -c 'ldconfig -p | grep -q libmimalloc.so.2'
# This package's redis-check-rdb is also the server, and no daemon starts.
need redis-tools command -v redis-benchmark
# memcached, which tests unpack and don't install, is linked with this library.
need libevent-2.1-7 sh -c 'ldconfig -p | grep -q libevent-2.1.so.7'

[ "$missing" ] || exit 0

install="apt-get install --yes --no-install-recommends$missing"
if [ "$(id -u)" != 0 ]; then
	echo "system packages are missing; type: sudo $install" >&2
	exit 1
fi
echo "installing$missing" >&2
apt-get update --quiet --quiet
DEBIAN_FRONTEND=noninteractive $install
