"""Which addresses of one VPC belong to which security groups: an index that changes with its ports. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from ovsnet.desired import Subject
from ovsnet.model.numbers import ip_text, link_local, mac_int
from ovsnet.model.rules import groups_of
from ovsnet.model.types import Port, RemoteEndpoint

Nic = Port | RemoteEndpoint


class Memberships:
    """The ports and endpoints of one VPC, by group and by address.

    An address belongs to the groups of whoever has it, and of the ports that may *borrow* it: that it is a single
    allowed address of. A range is nobody's address. ``domains`` are the routed domains of networks that are in one,
    within which an address is one's own.
    """

    def __init__(self, domains: Mapping[str, str] | None = None) -> None:
        self._domains = domains or {}
        self._subjects: set[Subject] = set()
        self._grouped: dict[str, set[Subject]] = {}
        self._owners: dict[tuple[str, str], Subject] = {}
        self._borrowers: dict[tuple[str, str], dict[Subject, frozenset[str]]] = {}

    def note(self, subject: Subject, nic: Nic) -> Iterator[Subject]:
        """A port or endpoint is there now; yields what else that concerns."""
        groups, domain = groups_of(nic), self.domain(nic.network)
        self._subjects.add(subject)
        for group in groups:
            self._grouped.setdefault(group, set()).add(subject)
        for ip in nic.ips or ():
            self._owners[domain, ip] = subject
            if (domain, ip) in self._borrowers:
                yield _address(subject.vpc, domain, ip)
        for ip in _borrowed(nic):
            self._borrowers.setdefault((domain, ip), {})[subject] = frozenset(groups)
            yield from self._speakers(subject.vpc, domain, ip)

    def forget(self, subject: Subject, nic: Nic) -> Iterator[Subject]:
        """It is gone; yields what else that concerns."""
        domain = self.domain(nic.network)
        self._subjects.discard(subject)
        for group in groups_of(nic):
            self._grouped[group].discard(subject)
        for ip in nic.ips or ():
            if self._owners.get((domain, ip)) == subject:
                del self._owners[domain, ip]
            if (domain, ip) in self._borrowers:
                yield _address(subject.vpc, domain, ip)
        for ip in _borrowed(nic):
            users = self._borrowers[domain, ip]
            del users[subject]
            if not users:
                del self._borrowers[domain, ip]
            yield from self._speakers(subject.vpc, domain, ip)

    def domain(self, network: str) -> str:
        """The name of the domain that a network's addresses are in: ``/ROUTER``, or the network itself."""
        return self._domains.get(network, network)

    def subjects(self) -> frozenset[Subject]:
        """All ports and endpoints."""
        return frozenset(self._subjects)

    def owner(self, network: str, ip: str) -> Subject | None:
        """The port or endpoint that has an address of a network's domain."""
        return self._owners.get((self.domain(network), ip))

    def concerned(self, vpc: str, groups: Iterable[str]) -> Iterator[Subject]:
        """Whose flows say who is in these groups."""
        for group in groups:
            yield from self._grouped.get(group, ())
            for (domain, ip), users in self._borrowers.items():
                if any(group in of for of in users.values()):
                    yield from self._speakers(vpc, domain, ip)

    def borrowed_in(self, vpc: str, network: str) -> Iterator[Subject]:
        """Whose flows say which groups the borrowed addresses of a network's domain are in that nobody has."""
        domain = self.domain(network)
        return (_address(vpc, at, ip) for at, ip in self._borrowers if at == domain)

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
        domain = self.domain(nic.network)
        return [(ip, {*groups, *self.borrowed(domain, ip)}) for ip in ips]

    def borrowed(self, domain: str, ip: str) -> set[str]:
        """The groups of the ports that may borrow an address."""
        return {group for groups in self._borrowers.get((domain, ip), {}).values() for group in groups}

    def first_borrower(self, domain: str, ip: str) -> Subject | None:
        """The port whose flows an address that is nobody's counts as; ``None`` if somebody has it, or none may."""
        users = self._borrowers.get((domain, ip))
        return min(users) if users and (domain, ip) not in self._owners else None

    def _speakers(self, vpc: str, domain: str, ip: str) -> Iterator[Subject]:
        """Whose flows say which groups a borrowed address is in: its owner's, or else those of the address alone."""
        yield _address(vpc, domain, ip)
        if (domain, ip) in self._owners:
            yield self._owners[domain, ip]


def _address(vpc: str, domain: str, ip: str) -> Subject:
    return Subject("address", vpc, f"{domain} {ip}")


def _borrowed(nic: Nic) -> Iterable[str]:
    if not isinstance(nic, Port) or not nic.port_security or nic.host is None:
        return ()
    allowed = (address.ip.partition("/") for address in nic.allowed_addresses)
    return [ip for ip, _, length in allowed if length in ("", "128" if ":" in ip else "32")]
