"""The virtual machine's image, from Debian's packages: cloud kernel, initial ramdisk and root file system.

Nothing is installed in it: packages are only unpacked, so no maintainer script runs and no service starts. The image is
cached outside the tree under a name that contains a hash of its recipe (this file and ``stage1.sh``).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
SUITE = "bookworm"
PACKAGES = (
    # a system that boots into a shell
    *(
        "linux-image-cloud-amd64",
        "kmod",
        "busybox-static",
        "bash",
        "coreutils",
        "util-linux",
        "mount",
        "libc-bin",
        "dash",
    ),
    *("base-files", "base-passwd", "netbase", "grep", "sed", "gawk", "findutils", "procps", "tar", "gzip", "diffutils"),
    # what the lab and its tests use
    *("openvswitch-switch", "python3", "iproute2", "iputils-ping", "ethtool", "tcpdump", "ca-certificates", "openssl"),
    # what wheels with compiled code link to
    *("libstdc++6", "zlib1g"),
)
BOOT_MODULES = ("virtio_pci", "virtio_blk", "overlay")
# documentation and translations, and drivers and file systems that an emulated machine has no use for
EXCLUDED = (
    "/usr/share/doc/*",
    "/usr/share/man/*",
    "/usr/share/locale/*",
    "/usr/share/info/*",
    "/usr/share/bash-completion/*",
)
TOOLS = {
    "mmdebstrap": "mmdebstrap",
    "mke2fs": "e2fsprogs",
    "qemu-system-x86_64": "qemu-system-x86",
}
UNUSED_AFTER_DAYS = 30.0


class VmUnavailable(RuntimeError):
    """The machine lacks something that the virtual machine needs; the message says what, and how to get it."""


@dataclass(frozen=True)
class Image:
    """A built image: three files in one cache directory, none of them ever written to again."""

    kernel: Path
    initrd: Path
    root: Path


def cache_dir() -> Path:
    """Where images are kept: ``$XDG_CACHE_HOME/ovsnet``, else ``/var/cache/ovsnet``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "/var/cache") / "ovsnet"


def recipe_hash() -> str:
    """The first 16 hex digits of the SHA-256 of everything that determines the image, Debian's updates apart."""
    digest = hashlib.sha256()
    for name in ("image.py", "stage1.sh"):
        digest.update((HERE / name).read_bytes())
    return digest.hexdigest()[:16]


def check_tools() -> None:
    """Raise VmUnavailable naming the Debian packages to install when a program is missing."""
    missing = sorted(package for tool, package in TOOLS.items() if shutil.which(tool, path=_path()) is None)
    if missing:
        raise VmUnavailable(f"the virtual machine needs: apt-get install --no-install-recommends {' '.join(missing)}")
    if os.geteuid() != 0:
        raise VmUnavailable("the virtual machine's disks keep their files' owners: run the tests as root")


def ensure_image() -> Image:
    """Return the image of this recipe, building it (about 20 s and 100 MB of downloads) when it is not cached.

    One builder at a time (a lock file); a finished image appears by one rename. Raises VmUnavailable when a tool is
    missing or Debian's packages cannot be fetched.
    """
    check_tools()
    cache = cache_dir()
    cache.mkdir(parents=True, exist_ok=True)
    place = cache / f"vm-{recipe_hash()}"
    with _locked(cache / "vm.lock"):
        if not place.is_dir():
            _drop_unused(cache)
            _build(cache, place)
        os.utime(place)
    return Image(place / "vmlinuz", place / "initrd", place / "root.img")


def _build(cache: Path, place: Path) -> None:
    work = cache / f"vm-build-{os.getpid()}"
    shutil.rmtree(work, ignore_errors=True)
    try:
        root, out = work / "root", work / "out"
        out.mkdir(parents=True)
        _unpack(root)
        _finish(root)
        (kernel,) = (root / "boot").glob("vmlinuz-*")
        version = kernel.name.removeprefix("vmlinuz-")
        _command("chroot", str(root), "depmod", version)
        (out / "initrd").write_bytes(_initrd(root, version))
        shutil.move(kernel, out / "vmlinuz")
        shutil.rmtree(root / "boot")
        make_disk(root, out / "root.img")
        out.rename(place)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _unpack(root: Path) -> None:
    _command(
        "mmdebstrap",
        "--quiet",
        "--mode=root",
        "--variant=extract",
        "--architectures=amd64",
        "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr",
        *(f"--dpkgopt=path-exclude={pattern}" for pattern in EXCLUDED),
        f"--include={','.join(PACKAGES)}",
        SUITE,
        str(root),
    )


def _finish(root: Path) -> None:
    """Do the little that the maintainer scripts of unpacked packages would have done."""
    for name in ("passwd", "group"):
        shutil.copy(root / f"usr/share/base-passwd/{name}.master", root / "etc" / name)
    for name, entry in (
        ("passwd", "tcpdump:x:101:101::/nonexistent:/usr/sbin/nologin\n"),
        ("group", "tcpdump:x:101:\n"),
    ):
        with (root / "etc" / name).open("a") as file:
            file.write(entry)
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n::1 localhost\n")
    for name, target in (("run", "/run"), ("lock", "/run/lock")):
        shutil.rmtree(root / "var" / name, ignore_errors=True)
        (root / "var" / name).symlink_to(target)
    # An emulated processor needs half a minute for what takes a second here.
    _command("chroot", str(root), "python3.11", "-m", "compileall", "-q", "-j", "0", "/usr/lib/python3.11")
    (root / "usr/sbin/ovs-vswitchd").symlink_to("../lib/openvswitch-switch/ovs-vswitchd")
    (root / "usr/bin/awk").symlink_to("gawk")
    for name in ("mnt/guest", "mnt/site", "var/log/openvswitch"):
        (root / name).mkdir(parents=True, exist_ok=True)


def make_disk(content: Path, disk: Path) -> None:
    """Write an ext4 image that holds the directory ``content``; neither a mount nor a loop device is needed."""
    files = [0]
    for where, _, names in os.walk(content):
        files.extend(os.lstat(os.path.join(where, name)).st_size + 4096 for name in (".", *names))
    size_kib = int(sum(files) / 1024 * 1.1) + 8192
    inodes = len(files) + 1024
    options = ["-q", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-N", str(inodes)]
    _command("mke2fs", *options, "-d", str(content), str(disk), f"{size_kib}k")


def _initrd(root: Path, version: str) -> bytes:
    """An initial ramdisk: busybox, the modules that reach the disks, in the order to load them, and ``stage1.sh``."""
    base = root / "usr/lib/modules" / version
    order = _module_order(base)
    archive = b"".join(_cpio_entry(name, stat.S_IFDIR | 0o755, b"") for name in ("bin", "lib", "dev", "proc", "new"))
    archive += _cpio_entry("bin/busybox", stat.S_IFREG | 0o755, (root / "usr/bin/busybox").read_bytes())
    archive += _cpio_entry("init", stat.S_IFREG | 0o755, (HERE / "stage1.sh").read_bytes())
    for number, module in enumerate(order):
        name = f"lib/{number:02}-{Path(module).name}"
        archive += _cpio_entry(name, stat.S_IFREG | 0o644, (base / module).read_bytes())
    return archive + _cpio_entry("TRAILER!!!", 0, b"")


def _module_order(base: Path) -> list[str]:
    """The files of BOOT_MODULES and of what they need, dependencies first, from depmod's ``modules.dep``."""
    needs = dict(line.split(":", 1) for line in (base / "modules.dep").read_text().splitlines())
    order: dict[str, None] = {}
    for module in BOOT_MODULES:
        (path,) = (path for path in needs if Path(path).name == f"{module}.ko")
        order.update(dict.fromkeys([*reversed(needs[path].split()), path]))
    return list(order)


def _cpio_entry(name: str, mode: int, data: bytes) -> bytes:
    """One member of a "newc" archive (Linux, Documentation/driver-api/early-userspace/buffer-format.rst)."""
    fields = (0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
    head = b"070701" + b"".join(b"%08x" % field for field in fields) + name.encode() + b"\0"
    return _padded(head) + _padded(data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _drop_unused(cache: Path) -> None:
    oldest = time.time() - UNUSED_AFTER_DAYS * 86400
    for place in cache.glob("vm-*"):
        if place.is_dir() and place.stat().st_mtime < oldest:
            shutil.rmtree(place, ignore_errors=True)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _path() -> str:
    return os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


def _command(*argv: str) -> None:
    done = subprocess.run(
        argv, env=os.environ | {"PATH": _path()}, capture_output=True, text=True, timeout=900, check=False
    )
    if done.returncode:
        raise VmUnavailable(f"{argv[0]} failed while the virtual machine was prepared: {done.stderr.strip()[-2000:]}")
