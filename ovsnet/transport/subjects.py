"""The names of the bus's subjects: one tree for each host, so that a certificate's permissions never have to change."""

from __future__ import annotations

from dataclasses import dataclass

PREFIX = "ovsnet"
"""The first word of every subject, unless told otherwise."""

CHANGE, CHUNK, HEADS = "change", "chunk", "heads"
"""The kinds of messages to a host; a chunk is a part of a change that is too large for one message."""
HELLO, REPORT = "hello", "report"
"""The kinds of messages from a host."""


@dataclass(frozen=True)
class Subjects:
    """The subjects below a prefix. Names of hosts and clients hold no dot, no wildcard and no space (docs/model.md)."""

    prefix: str = PREFIX

    def to_host(self, host: str, kind: str) -> str:
        """Where a message of a kind goes to a host."""
        return f"{self.prefix}.host.{host}.in.{kind}"

    def from_host(self, host: str, kind: str) -> str:
        """Where a host sends a message of a kind."""
        return f"{self.prefix}.host.{host}.out.{kind}"

    def all_to_host(self, host: str) -> str:
        """All that a host reads: one subscription, so that the order of its messages is kept."""
        return f"{self.prefix}.host.{host}.in.>"

    def all_from_hosts(self) -> str:
        """All that hosts say."""
        return f"{self.prefix}.host.*.out.*"

    def ingest(self, client: str) -> str:
        """Where a client asks a controller for changes."""
        return f"{self.prefix}.ingest.{client}"

    def all_ingest(self) -> str:
        """What all clients ask of a controller."""
        return f"{self.prefix}.ingest.*"

    def parse(self, subject: str) -> tuple[str, str]:
        """The host and the kind of a message from or to a host; the client and ``ingest``. ``("", "")``: neither."""
        words = subject.removeprefix(f"{self.prefix}.").split(".")
        if len(words) == 4 and words[0] == "host" and words[2] in {"in", "out"}:
            return words[1], words[3]
        return (words[1], "ingest") if len(words) == 2 and words[0] == "ingest" else ("", "")
