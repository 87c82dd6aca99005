"""Run a script in an emulated machine with the kernel's Open vSwitch datapath; nothing is started or mounted outside.

    python -m tests.vm.runner 'uname -r; ovs-vswitchd --version'

The machine has no network. It sees this tree and the virtual environment at the paths they have here.
"""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

from tests.vm.image import HERE, Image, VmUnavailable, ensure_image, make_disk

TREE = HERE.parents[1]
LEFT_OUT = (
    ".git",
    ".venv",
    "build",
    "dist",
    ".mypy_cache",
    ".ruff_cache",
    ".pytest_cache",
    ".hypothesis",
    "*.egg-info",
)
RESULTS_SIZE = 256 << 20
MEMORY_MIB = 1536
CPUS = 2
# everything that the emulator has: NumPy's wheels refuse the default model, which lacks SSE4.2 (x86-64-v2)
EMULATED_CPU = "max"


class VmError(RuntimeError):
    """The machine did not finish its script: it ran out of time or died. The message ends with its console."""


@dataclass(frozen=True)
class VmResult:
    """What a script left behind: its exit code, its output, and the files it wrote below ``$RESULTS``."""

    exit_code: int
    output: str
    files: dict[str, bytes]
    kernel_log: str


def run_in_vm(script: str, timeout: float, *, echo: bool = False) -> VmResult:
    """Run a bash script as root in a fresh machine, in the tree's directory; ``timeout`` is in seconds, boot included.

    ``echo`` copies the console to standard output while it runs. Raises VmUnavailable when a prerequisite is missing
    and VmError when the machine did not finish; a failing script is a result, not an error.
    """
    site = _site_packages()
    image = ensure_image()
    with tempfile.TemporaryDirectory(prefix="ovsnet-vm-") as name:
        work = Path(name)
        _write_disks(work, script, site)
        console = _run_machine(_qemu(image, work), timeout, echo)
        return _read_results(work / "results.img", console)


def use_kvm() -> bool:
    """Whether hardware virtualisation works here. A ``/dev/kvm`` alone proves nothing: paravirtual guests have one."""
    modules = Path("/sys/module")
    return os.access("/dev/kvm", os.W_OK) and any((modules / name).is_dir() for name in ("kvm_intel", "kvm_amd"))


def _site_packages() -> Path:
    if sys.version_info[:2] != (3, 11) or sys.prefix == sys.base_prefix:
        raise VmUnavailable("run the tests with a virtual environment of Python 3.11: the machine has Debian 12's")
    return Path(sys.prefix) / "lib/python3.11/site-packages"


def _write_disks(work: Path, script: str, site: Path) -> None:
    guest = work / "guest"
    shutil.copytree(TREE, guest / "tree", ignore=shutil.ignore_patterns(*LEFT_OUT), symlinks=True)
    shutil.copy(HERE / "stage2.sh", guest)
    (guest / "script").write_text(script)
    (guest / "environment").write_text(f"TREE='{TREE}'\nPREFIX='{sys.prefix}'\nSITE='{site}'\n")
    make_disk(guest, work / "guest.img")
    make_disk(site, work / "site.img")
    with (work / "results.img").open("wb") as disk:
        disk.truncate(RESULTS_SIZE)


def _qemu(image: Image, work: Path) -> list[str]:
    accelerator = (
        ["-accel", "kvm", "-cpu", "host"] if use_kvm() else ["-accel", "tcg,thread=multi", "-cpu", EMULATED_CPU]
    )
    disks = [(image.root, "on"), (work / "guest.img", "on"), (work / "site.img", "on"), (work / "results.img", "off")]
    drives = [f"file={path},if=virtio,format=raw,cache=unsafe,readonly={readonly}" for path, readonly in disks]
    return [
        *("setpriv", "--pdeathsig", "KILL"),
        *("qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-nic", "none"),
        *("-machine", "q35", *accelerator, "-smp", str(CPUS), "-m", str(MEMORY_MIB)),
        *("-kernel", str(image.kernel), "-initrd", str(image.initrd)),
        *("-append", "console=ttyS0 quiet panic=-1 mitigations=off net.ifnames=0 tsc=unstable random.trust_cpu=on"),
        *(word for drive in drives for word in ("-drive", drive)),
        *("-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"),
    ]


def _run_machine(argv: list[str], timeout: float, echo: bool) -> str:
    """Run qemu to its end and return the console's text; it dies with this process, whatever ends that."""
    lines: list[str] = []
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as machine:
        late = threading.Event()

        def stop() -> None:
            late.set()
            machine.kill()

        timer = threading.Timer(timeout, stop)
        timer.start()
        try:
            assert machine.stdout is not None
            for raw in machine.stdout:
                lines.append(raw.decode(errors="replace").replace("\r", ""))
                if echo:
                    sys.stdout.write(lines[-1])
                    sys.stdout.flush()
        finally:
            timer.cancel()
            machine.kill()
    console = "".join(lines)
    if late.is_set():
        raise VmError(f"the virtual machine did not finish within {timeout:.0f} s; its console:\n{console[-8000:]}")
    return console


def _read_results(disk: Path, console: str) -> VmResult:
    try:
        with tarfile.open(fileobj=io.BytesIO(disk.read_bytes())) as archive:
            members = {entry.name.removeprefix("./"): archive.extractfile(entry) for entry in archive if entry.isfile()}
            files = {name: handle.read() for name, handle in members.items() if handle is not None}
        code, output, log = (files.pop(name).decode(errors="replace") for name in (".exit-code", ".output", ".dmesg"))
    except (tarfile.TarError, KeyError) as error:
        raise VmError(f"the virtual machine ended without results; its console:\n{console[-8000:]}") from error
    return VmResult(int(code), output, files, log)


def main() -> int:
    """Run the command line's script with its output on the terminal; the exit code is the script's."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        return run_in_vm(" ".join(sys.argv[1:]), timeout=600, echo=True).exit_code
    except (VmUnavailable, VmError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 125


if __name__ == "__main__":
    sys.exit(main())
