"""Takes a lab away, whatever is left of it: processes, namespaces, files."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from pathlib import Path

from ovsnet.errors import UserError
from ovsnet.lab import netns, record
from ovsnet.lab.signals import uninterruptible
from ovsnet.lab.topology import lab_dir, marker, prefix

_REMOVALS = 5
_PROGRAMS = {b"ovs-vswitchd", b"ovsdb-server", b"nats-server"}
_MODULES = {b"ovsnet.agent.main", b"ovsnet.controller.main"}


def require_root() -> None:
    """Raise UserError for anybody else than root."""
    if os.geteuid():
        raise UserError("a lab makes network namespaces, which needs root. Run it with sudo.")


def down(name: str) -> list[str]:
    """Remove everything of a lab, also one whose record is lost or torn; returns names that were left alone.

    Those are namespaces that have a name of this lab and not its marker. Raises UserError: not root, a busy lab, no
    such lab.
    """
    require_root()
    with record.locked(name):
        if not lab_dir(name).exists() and not netns.names(prefix(name)):
            running = ", ".join(record.labs()) or "none"
            raise UserError(f"no lab is named {name} (running: {running}).")
        with uninterruptible():
            return remove(name)


def remove(name: str) -> list[str]:
    """Remove what is the lab's, again while something is left: an interrupted step may still be making it.

    The caller holds the lab's lock; returns names that were left alone.
    """
    for _ in range(_REMOVALS):
        foreign = _remove_once(name)
        if not netns.names(prefix(name)) and not lab_dir(name).exists():
            return []
        time.sleep(0.2)
    return foreign


def _remove_once(name: str) -> list[str]:
    every = netns.names(prefix(name))
    placeholders = [one for one in every if netns.is_placeholder(one)]
    mine = [one for one in every if one not in placeholders and netns.marker_of(one) == marker(name)]
    base = lab_dir(name)
    doomed = set(netns.pids_in(mine)) | _processes_below(base)
    netns.end(doomed)
    for one in [*mine, *placeholders]:
        netns.delete(one)
    shutil.rmtree(base, ignore_errors=True)
    return sorted(set(every) - set(mine) - set(placeholders))


def _processes_below(base: Path) -> set[int]:
    """Switches and agents of the lab whose namespace has lost its name: their arguments name the lab's directory."""
    found = set()
    inside = f"{base}/".encode()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError, ValueError):
            argv = path.read_bytes().split(b"\0")
            ours = os.path.basename(argv[0]) in _PROGRAMS or not _MODULES.isdisjoint(argv)
            if ours and any(inside in word for word in argv):
                found.add(int(path.parent.name))
    return found - {os.getpid()}
