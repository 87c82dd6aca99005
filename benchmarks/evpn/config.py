"""gobgpd's configuration files: a route reflector with its clients, and a VTEP that is one of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

AS = 65000
DEFERRAL = 1  # seconds that the reflector waits for memberships (RFC 4684, section 6); then it sends all once more
_HOLD = 3600  # seconds; asked for by the speaker in Python, which sends no keepalives of its own


@dataclass(frozen=True)
class Centre:
    """Where the route reflector listens."""

    address: str
    port: int


def reflector(centre: Centre, clients: Sequence[str], speaker: str, *, constrain: bool) -> str:
    """The reflector's file: ``clients`` and ``speaker`` are the addresses that its neighbours come from."""
    sessions = [_client(centre, address, constrain=constrain) for address in clients]
    sessions.append(_client(centre, speaker, constrain=False, hold=_HOLD))
    return (
        f'[global.config]\nas = {AS}\nrouter-id = "{centre.address}"\nport = {centre.port}\n'
        f'local-address-list = ["{centre.address}"]\n' + "".join(sessions)
    )


def _client(centre: Centre, address: str, *, constrain: bool, hold: int = 90) -> str:
    return (
        f'[[neighbors]]\n[neighbors.config]\nneighbor-address = "{address}"\npeer-as = {AS}\n'
        f"[neighbors.timers.config]\nhold-time = {hold}\nkeepalive-interval = {hold // 3}\n"
        f'[neighbors.transport.config]\npassive-mode = true\nlocal-address = "{centre.address}"\n'
        "[neighbors.route-reflector.config]\nroute-reflector-client = true\n"
        f'route-reflector-cluster-id = "{centre.address}"\n' + _families(constrain=constrain)
    )


def vtep(address: str, centre: Centre, vnis: Sequence[int], *, constrain: bool) -> str:
    """A VTEP's file: one VRF for each VPC that it has ports in, whose route target it imports."""
    vrfs = "".join(
        f'[[vrfs]]\n[vrfs.config]\nname = "vni{vni}"\nid = {vni}\nrd = "{address}:{vni}"\n'
        f'both-rt-list = ["{AS}:{vni}"]\n'
        for vni in vnis
    )
    return (
        f'[global.config]\nas = {AS}\nrouter-id = "{address}"\nport = -1\n{vrfs}'
        f'[[neighbors]]\n[neighbors.config]\nneighbor-address = "{centre.address}"\npeer-as = {AS}\n'
        "[neighbors.timers.config]\nconnect-retry = 5\n"
        f'[neighbors.transport.config]\nremote-port = {centre.port}\nlocal-address = "{address}"\n'
        + _families(constrain=constrain)
    )


def _families(*, constrain: bool) -> str:
    families = '[[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\nafi-safi-name = "l2vpn-evpn"\n'
    if constrain:
        families += (
            '[[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\nafi-safi-name = "rtc"\n'
            f"[neighbors.afi-safis.route-target-membership.config]\ndeferral-time = {DEFERRAL}\n"
        )
    return families
