"""README's two commands on a Debian 12 that has nothing: a minimal system in a directory, entered by chroot."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tree import copy_tree, files_of_the_tree

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(3600)]
PLACE = Path("root/ovsnet")
MOUNTED = """
set -eu
root=$1 command=$2
shift 2
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/run"
for directory; do
    mkdir -p "$root$directory"
    mount --bind -o ro "$directory" "$root$directory"
done
exec chroot "$root" /bin/bash -c "$command"
"""
"""Mounts are made in a namespace of their own, with the processes: both are gone when the command is."""
FROM_HERE = re.compile(r"PIP_\w+|SSL_CERT_\w+|\w+_CA_BUNDLE|\w+_proxy", re.IGNORECASE)
"""Variables that say how this machine reaches package registries."""


class Debian:
    """A system in a directory; ``run`` is the only way that anything runs in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.tree = root / PLACE
        self.shared: list[str] = []

    def install(self) -> None:
        """Debian's minimal system, this machine's way to registries, and the tree as it is here."""
        words = ["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", "bookworm", str(self.root)]
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=900)
        assert done.returncode == 0, done.stderr
        self._connect()
        copy_tree(self.tree)

    def _connect(self) -> None:
        """Names, certificates, and pip's configuration with the files and directories that it names."""
        for name in ("/etc/resolv.conf", "/etc/hosts", "/usr/local/share/ca-certificates"):
            self._copy(name)
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "config"]
        debug = subprocess.run([*pip, "debug"], capture_output=True, text=True, check=True).stdout
        for name in re.findall(r"^\s+(/.*), exists: True$", debug, re.MULTILINE):
            self._copy(name)
        said = subprocess.run([*pip, "list"], capture_output=True, text=True, check=True).stdout
        for name in dict.fromkeys(re.findall(r"(?:(?<=file://)|(?<=[ ',]))/[^\s',]+", said)):
            if Path(name).is_dir():  # the pages of an index refer to files beside them
                self.shared.append(name.removesuffix("/simple"))
            else:
                self._copy(name)

    def _copy(self, name: str) -> None:
        source, place = Path(name), self.root / name.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, place, dirs_exist_ok=True)
        elif source.exists():
            shutil.copyfile(source, place)

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run a shell command in the tree, with nothing of this machine's environment but the way to registries."""
        kept = {name: value for name, value in os.environ.items() if FROM_HERE.fullmatch(name)}
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8", **kept}
        alone = ["unshare", "--mount", "--propagation=private", "--pid", "--fork", "--kill-child"]
        return subprocess.run(
            [*alone, "sh", "-c", MOUNTED, "sh", str(self.root), f"cd /{PLACE} && {command}", *self.shared],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip

    def left(self) -> set[str]:
        """What is at the top of the tree and was not there at first."""
        return {path.name for path in self.tree.iterdir()} - {Path(name).parts[0] for name in files_of_the_tree()}

    def remove(self) -> None:
        """Delete the directory. Nothing may be mounted in it: that would be deleted too."""
        assert str(self.root) not in Path("/proc/self/mountinfo").read_text()
        shutil.rmtree(self.root)


@pytest.fixture(scope="module")
def debian() -> Iterator[Debian]:
    system = Debian(Path(tempfile.mkdtemp(prefix="ovsnet-debian-", dir="/var/tmp")))
    try:
        system.install()
        yield system
    finally:
        system.remove()


def test_nothing_is_there_at_first(debian: Debian) -> None:
    found = debian.run("command -v python3 ip ovs-vswitchd; echo $?")
    assert found.stdout.split() == ["127"] or found.stdout.split() == ["1"]


def test_the_demo_installs_what_it_needs_and_leaves_nothing(debian: Debian) -> None:
    done = debian.run("./demo && ls -A /run/netns /run/ovsnet-lab 2>/dev/null; ls /etc/rc2.d | grep ^S.*openvswitch")
    assert "180 of 180 as declared, 32 allowed, 148 forbidden" in done.stdout, done.stdout
    assert " 0 lost, 0 doubled" in done.stdout, done.stdout
    assert done.stdout.splitlines()[0].startswith("Installing Debian packages: ")
    assert "openvswitch" not in done.stdout.splitlines()[-1], "it is started with the machine"
    assert debian.left() == {".venv"}


def test_again_it_installs_nothing(debian: Debian) -> None:
    done = debian.run("./demo")
    assert done.returncode == 0, done.stdout
    assert "Installing" not in done.stdout


def test_the_tests_run(debian: Debian) -> None:
    done = debian.run("./test tests/unit tests/system/test_demo.py tests/system/test_systemd_units.py")
    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines()[-1] == "All tests passed.", done.stdout
    assert debian.left() == {".venv"}
