"""Connection targets as Open vSwitch writes them (ovsdb(7), Connection Methods)."""

from pathlib import Path


def unix_directory(target: str) -> Path | None:
    """The directory of a ``unix:PATH`` target, where ovs-vswitchd's other sockets are; ``None`` for other targets."""
    kind, _, path = target.partition(":")
    return Path(path).parent if kind == "unix" and path else None
