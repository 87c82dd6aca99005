"""The names of the bus's subjects: one tree for each host, so that a certificate's permissions never have to change."""

from __future__ import annotations

from dataclasses import dataclass

from ovsnet.model.checks import NAME

PREFIX = "ovsnet"
"""The first word of every subject, unless told otherwise."""
ANY = "*"
"""Stands for every host, or every client, in what is subscribed to and in permissions."""

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

    def all_from_host(self, host: str) -> str:
        """All that a host says."""
        return f"{self.prefix}.host.{host}.out.>"

    def ingest(self, client: str) -> str:
        """Where a client asks a controller for changes."""
        return f"{self.prefix}.ingest.{client}"

    def answerable(self, subject: str, reply: str) -> bool:
        """Whether a controller may answer a message of ``subject`` at ``reply``: in its sender's own inbox only.

        A sender chooses its reply subject, and the server does not hold it to the sender's permissions. Whoever
        answered at any subject would lend its own permissions to the sender, for instance to write to a host.
        """
        client, kind = self.parse(subject)
        if kind != "ingest" or not NAME.fullmatch(client) or not reply.startswith(f"{inbox_prefix(client)}."):
            return False
        return all(token and not set(token) & set("*> \t\r\n") for token in reply.split("."))

    def parse(self, subject: str) -> tuple[str, str]:
        """The host and the kind of a message from or to a host; the client and ``ingest``. ``("", "")``: neither."""
        words = subject.removeprefix(f"{self.prefix}.").split(".")
        if len(words) == 4 and words[0] == "host" and words[2] in {"in", "out"}:
            return words[1], words[3]
        return (words[1], "ingest") if len(words) == 2 and words[0] == "ingest" else ("", "")


def inbox_prefix(name: str) -> str:
    """The prefix of a caller's or client's inboxes, to be set as the NATS client's ``inbox_prefix``."""
    return f"_INBOX_{name}"
