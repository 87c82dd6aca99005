"""One real Open vSwitch: an ovsdb-server and an ovs-vswitchd with a run directory (and a namespace) of their own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

from ovsnet.errors import EXIT_UNAVAILABLE, UserError
from ovsnet.lab.patience import PATIENCE

SCHEMA = Path("/usr/share/openvswitch/vswitch.ovsschema")


class OvsError(UserError):
    """An Open vSwitch process did not start, or a command to it failed."""

    exit_code = EXIT_UNAVAILABLE


class OvsInstance:
    """A private Open vSwitch below ``run_dir``; several run side by side.

    ``netns`` is the name of the network namespace its processes live in (``None``: the caller's). With ``dummy`` the
    switch has no real ports: OVS's own test datapath, which needs no privileges (``netdev-dummy/receive``).
    """

    def __init__(self, run_dir: Path, *, netns: str | None = None, dummy: bool = False) -> None:
        self.run_dir = Path(run_dir)
        self.netns = netns
        self.dummy = dummy

    @property
    def db_socket(self) -> Path:
        """The OVSDB socket's path."""
        return self.run_dir / "db.sock"

    @property
    def db_target(self) -> str:
        """The OVSDB connection target, ``unix:PATH``."""
        return f"unix:{self.db_socket}"

    def mgmt_target(self, bridge: str) -> str:
        """The OpenFlow target of a bridge's management socket, ``unix:PATH``."""
        return f"unix:{self.run_dir / f'{bridge}.mgmt'}"

    @property
    def vswitchd_pid(self) -> int | None:
        """The running vswitchd's process id, or ``None``."""
        return _live_pid(self.run_dir / "ovs-vswitchd.pid")

    @property
    def ovsdb_pid(self) -> int | None:
        """The running ovsdb-server's process id, or ``None``."""
        return _live_pid(self.run_dir / "ovsdb-server.pid")

    def start(self) -> OvsInstance:
        """Start both processes; returns when they answer. Raises OvsError with the end of the log."""
        self.run_dir.mkdir(parents=True, exist_ok=True)
        self.start_ovsdb()
        self.start_vswitchd()
        return self

    def start_ovsdb(self) -> None:
        """Create the database if there is none, and start ovsdb-server."""
        db = self.run_dir / "conf.db"
        if not db.exists():
            self.run("ovsdb-tool", "create", str(db), str(SCHEMA))
        self.run("ovsdb-server", str(db), f"--remote=punix:{self.db_socket}", *self._daemon("ovsdb-server"))
        self.vsctl("--no-wait", "init")

    def start_vswitchd(self) -> None:
        """Start ovs-vswitchd against the running ovsdb-server."""
        mode = ["--enable-dummy=override", "--disable-system", "--disable-system-route"] if self.dummy else []
        self.run("ovs-vswitchd", self.db_target, *mode, *self._daemon("ovs-vswitchd"))

    def _daemon(self, name: str) -> list[str]:
        return [
            "--detach",
            "--no-chdir",
            f"--pidfile={self.run_dir / name}.pid",
            f"--log-file={self.run_dir / name}.log",
            f"--unixctl={self.run_dir / name}.ctl",
            "-vconsole:off",
            "-vsyslog:off",
        ]

    def run(self, *argv: str, check: bool = True, timeout: float = 60.0 * PATIENCE, stdin: bytes | None = None) -> str:
        """Run a command in the instance's namespace with its environment; returns its standard output."""
        prefix = ["ip", "netns", "exec", self.netns] if self.netns else []
        env = os.environ | {
            "OVS_RUNDIR": str(self.run_dir),
            "OVS_LOGDIR": str(self.run_dir),
            "OVS_DBDIR": str(self.run_dir),
        }
        done = subprocess.run([*prefix, *argv], env=env, input=stdin, capture_output=True, timeout=timeout, check=False)
        if check and done.returncode:
            raise OvsError(f"{' '.join(argv)}: {done.stderr.decode(errors='replace').strip()}")
        return done.stdout.decode(errors="replace")

    def vsctl(self, *argv: str, check: bool = True) -> str:
        """``ovs-vsctl`` against this instance's database."""
        return self.run("ovs-vsctl", f"--db={self.db_target}", f"--timeout={20 * PATIENCE:.0f}", *argv, check=check)

    def ofctl(self, command: str, bridge: str, *argv: str, check: bool = True, stdin: bytes | None = None) -> str:
        """``ovs-ofctl -O OpenFlow14 COMMAND BRIDGE ...`` through the bridge's management socket."""
        target = self.mgmt_target(bridge)
        return self.run("ovs-ofctl", "-O", "OpenFlow14", command, target, *argv, check=check, stdin=stdin)

    def appctl(self, *argv: str, check: bool = True) -> str:
        """``ovs-appctl`` to this instance's vswitchd."""
        return self.run("ovs-appctl", "-t", str(self.run_dir / "ovs-vswitchd.ctl"), *argv, check=check)

    def stop_vswitchd(self, sig: int = signal.SIGTERM) -> None:
        """End ovs-vswitchd by its process id, with ``sig`` and then SIGKILL."""
        _end(self.vswitchd_pid, sig)

    def stop(self) -> None:
        """End both processes by their process ids."""
        self.stop_vswitchd()
        _end(self.ovsdb_pid, signal.SIGTERM)


def _live_pid(pidfile: Path) -> int | None:
    try:
        pid = int(pidfile.read_text().strip())
        name = Path(f"/proc/{pid}/comm").read_text().strip()
    except (OSError, ValueError):
        return None
    return pid if name in {"ovs-vswitchd", "ovsdb-server"} and not _ended(pid) else None


def _end(pid: int | None, sig: int, patience: float = 5.0) -> None:
    if pid is None:
        return
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, sig)
        end = time.monotonic() + patience
        while time.monotonic() < end:
            if _ended(pid):
                return
            time.sleep(0.02)
        os.kill(pid, signal.SIGKILL)


def _ended(pid: int) -> bool:
    """Whether the process is gone, or a zombie that its parent has not collected yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (OSError, IndexError):
        return True
