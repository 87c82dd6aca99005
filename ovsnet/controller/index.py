"""Who has which address in a VPC, and which are free."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from ovsnet.controller.pools import Pool
from ovsnet.controller.requests import Kind
from ovsnet.model.addresses import Cidr, ip_text, parse_cidr, parse_ip
from ovsnet.model.types import Network, Port, RemoteEndpoint, VpcState

Holder = Port | RemoteEndpoint
_ENDPOINT = "@"
"""Begins the index's name of an endpoint, which no port's name does."""


def holder_key(kind: Kind, name: str) -> str:
    """The name under which the index knows a port or an endpoint."""
    return name if kind == "ports" else _ENDPOINT + name


def key_text(key: str) -> str:
    """A holder as messages name it."""
    return f"endpoint {key[1:]}" if key.startswith(_ENDPOINT) else f"port {key}"


def key_path(key: str) -> str:
    """A holder as a path in its VPC."""
    return f"endpoints.{key[1:]}" if key.startswith(_ENDPOINT) else f"ports.{key}"


def addresses_of(one: Holder) -> Iterator[str]:
    """The MAC and the IP addresses of a port or an endpoint."""
    if one.mac:
        yield one.mac
    yield from one.ips or ()


class AddressIndex:
    """The addresses of a VPC by network: a dictionary each, whose keys and values are the objects' own strings."""

    def __init__(self, state: VpcState) -> None:
        self._holders: dict[str, dict[str, str]] = {}
        self._shared: dict[str, dict[str, int]] = {}
        self._pools: dict[tuple[str, str], Pool] = {}
        for name, port in state.ports.items():
            self.add(name, port)
        for name, endpoint in state.endpoints.items():
            self.add(holder_key("endpoints", name), endpoint)

    def add(self, key: str, one: Holder) -> None:
        """A port or an endpoint has come."""
        holders = self._holders.setdefault(one.network, {})
        for address in addresses_of(one):
            holders[address] = key
        if isinstance(one, Port) and one.allowed_addresses:
            shared = self._shared.setdefault(one.network, {})
            for allowed in one.allowed_addresses:
                shared[allowed.ip] = shared.get(allowed.ip, 0) + 1

    def discard(self, key: str, one: Holder) -> None:
        """A port or an endpoint has gone, or is about to come back changed."""
        holders = self._holders.get(one.network, {})
        for address in addresses_of(one):
            if holders.get(address) == key:
                del holders[address]
        if isinstance(one, Port) and one.allowed_addresses:
            shared = self._shared[one.network]
            for allowed in one.allowed_addresses:
                shared[allowed.ip] -= 1
                if not shared[allowed.ip]:
                    del shared[allowed.ip]

    def holder(self, network: str, address: str) -> str | None:
        """Who has an address in a network."""
        return self._holders.get(network, {}).get(address)

    def users(self, network: str) -> Mapping[str, str]:
        """All addresses of a network with their holders."""
        return self._holders.get(network, {})

    def take(self, name: str, network: Network, cidr: str, free: Callable[[str], bool]) -> tuple[str, Pool, int] | None:
        """The lowest free address of a range that is also ``free``: its text, its pool and number, to give it back."""
        parsed = parse_cidr(cidr)
        if parsed is None:
            return None
        pool = self._pools.setdefault((name, cidr), pool_of(parsed[0]))
        size = len(parsed[0].first)
        gateways = {subnet.gateway for subnet in network.subnets}
        holders, shared = self._holders.get(name, {}), self._shared.get(name, {})

        def usable(number: int) -> bool:
            text = ip_text(number.to_bytes(size, "big"))
            return text not in holders and text not in shared and text not in gateways and free(text)

        number = pool.take(usable)
        return None if number is None else (ip_text(number.to_bytes(size, "big")), pool, number)

    def give_back(self, network: str, address: str) -> None:
        """An address is free again: it may be handed out."""
        packed = parse_ip(address)
        if packed is None:
            return
        for (name, text), pool in self._pools.items():
            parsed = parse_cidr(text)
            if name == network and parsed and packed in parsed[0]:
                pool.give_back(int.from_bytes(packed, "big"))


NO_INDEX = AddressIndex(VpcState(name="", revision=0))
"""That of a VPC which does not exist yet."""


def pool_of(cidr: Cidr) -> Pool:
    """A range's addresses from its second host address on: the first is the custom of gateways."""
    small = cidr.length > cidr.bits - 2
    first = int.from_bytes(cidr.first, "big") + (1 if small else 2)
    last = int.from_bytes(cidr.last, "big") - (0 if small or cidr.bits == 128 else 1)
    return Pool(first, last)
