"""Which addresses of one VPC belong to which security groups: an index that changes with its ports. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

from ovsnet.desired import Subject
from ovsnet.model.numbers import ip_text, link_local, mac_int
from ovsnet.model.rules import groups_of
from ovsnet.model.types import Port, RemoteEndpoint

Nic = Port | RemoteEndpoint


class Memberships:
    """The ports and endpoints of one VPC, by group and by address.

    An address belongs to the groups of whoever has it, and of the ports that may *borrow* it: that it is a single
    allowed address of. A range is nobody's address.
    """

    def __init__(self) -> None:
        self._grouped: dict[str, set[Subject]] = {}
        self._owners: dict[tuple[str, str], Subject] = {}
        self._borrowers: dict[tuple[str, str], dict[Subject, frozenset[str]]] = {}

    def note(self, subject: Subject, nic: Nic) -> Iterator[Subject]:
        """A port or endpoint is there now; yields what else that concerns."""
        groups = groups_of(nic)
        for group in groups:
            self._grouped.setdefault(group, set()).add(subject)
        for ip in nic.ips or ():
            self._owners[nic.network, ip] = subject
            if (nic.network, ip) in self._borrowers:
                yield _address(subject.vpc, nic.network, ip)
        for ip in _borrowed(nic):
            self._borrowers.setdefault((nic.network, ip), {})[subject] = frozenset(groups)
            yield from self._speakers(subject.vpc, nic.network, ip)

    def forget(self, subject: Subject, nic: Nic) -> Iterator[Subject]:
        """It is gone; yields what else that concerns."""
        for group in groups_of(nic):
            self._grouped[group].discard(subject)
        for ip in nic.ips or ():
            if self._owners.get((nic.network, ip)) == subject:
                del self._owners[nic.network, ip]
            if (nic.network, ip) in self._borrowers:
                yield _address(subject.vpc, nic.network, ip)
        for ip in _borrowed(nic):
            users = self._borrowers[nic.network, ip]
            del users[subject]
            if not users:
                del self._borrowers[nic.network, ip]
            yield from self._speakers(subject.vpc, nic.network, ip)

    def concerned(self, vpc: str, groups: Iterable[str]) -> Iterator[Subject]:
        """Whose flows say who is in these groups."""
        for group in groups:
            yield from self._grouped.get(group, ())
            for (network, ip), users in self._borrowers.items():
                if any(group in of for of in users.values()):
                    yield from self._speakers(vpc, network, ip)

    def borrowed_in(self, vpc: str, network: str) -> Iterator[Subject]:
        """Whose flows say which groups the borrowed addresses of a network are in that nobody has."""
        return (_address(vpc, at, ip) for at, ip in self._borrowers if at == network)

    def addresses(self, nic: Nic) -> Sequence[tuple[str, Collection[str]]]:
        """The addresses that a port or endpoint has, each with its groups; with IPv6, the link-local one too."""
        groups = groups_of(nic)
        ips = nic.ips or ()
        if not self._borrowers and not groups:
            return ()
        if ":" in "".join(ips):
            own = ip_text(link_local(mac_int(nic.mac or "")), 128)
            ips = ips if own in ips else (*ips, own)
        if not self._borrowers:
            return [(ip, groups) for ip in ips]
        return [(ip, {*groups, *self.borrowed(nic.network, ip)}) for ip in ips]

    def borrowed(self, network: str, ip: str) -> set[str]:
        """The groups of the ports that may borrow an address."""
        return {group for groups in self._borrowers.get((network, ip), {}).values() for group in groups}

    def first_borrower(self, network: str, ip: str) -> Subject | None:
        """The port whose flows an address that is nobody's counts as; ``None`` if somebody has it, or none may."""
        users = self._borrowers.get((network, ip))
        return min(users) if users and (network, ip) not in self._owners else None

    def _speakers(self, vpc: str, network: str, ip: str) -> Iterator[Subject]:
        """Whose flows say which groups a borrowed address is in: its owner's, or else those of the address alone."""
        yield _address(vpc, network, ip)
        if (network, ip) in self._owners:
            yield self._owners[network, ip]


def _address(vpc: str, network: str, ip: str) -> Subject:
    return Subject("address", vpc, f"{network} {ip}")


def _borrowed(nic: Nic) -> Iterable[str]:
    if not isinstance(nic, Port) or not nic.port_security or nic.host is None:
        return ()
    allowed = (address.ip.partition("/") for address in nic.allowed_addresses)
    return [ip for ip, _, length in allowed if length in ("", "128" if ":" in ip else "32")]
