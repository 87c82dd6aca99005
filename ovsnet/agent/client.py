"""The agent's API for Python programs: HTTP over its unix socket, or by TLS, with the standard library and msgspec."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import quote, urlencode

import msgspec

from ovsnet.errors import UserError
from ovsnet.http.client import ServiceClient, ServiceError, ServiceUnreachable, query_text
from ovsnet.model.structure import convert_known
from ovsnet.model.types import VpcState
from ovsnet.tls import client_context

Data: TypeAlias = Any
"""What JSON gives: for most calls a dictionary."""


class AgentError(ServiceError):
    """The agent refused a request."""


class AgentUnreachable(ServiceUnreachable):
    """Nobody answers on the agent's socket."""


@dataclass(frozen=True)
class Credentials:
    """PEM files of a caller: its certificate and key, and the authority that hosts' certificates are held to."""

    cert: Path
    key: Path
    ca: Path

    def context(self) -> ssl.SSLContext:
        """For TLS. Raises UserError when the files cannot be used."""
        return client_context(self.ca, self.cert, self.key)


class AgentClient(ServiceClient):
    """A client of the agent at ``where``; not for several threads at once.

    ``where`` is the path of its socket (RUN_DIR/agent.sock), ``unix:PATH``, or ``https://ADDRESS:PORT`` with
    ``credentials``; ``name`` is then what the host's certificate has to say, if not the address.

    Every method raises AgentUnreachable without an answer within ``timeout`` seconds (beyond ``wait``), and AgentError
    when the agent refuses. ``wait`` is in seconds: how long the answer may be held back until the change is enforced.
    ``owner`` says in whose name a change is made, ``adopt`` takes over what is another's, ``if_match`` permits it only
    at that revision of the VPC.
    """

    service = "agent"
    refused = AgentError
    unreachable = AgentUnreachable

    def __init__(
        self, where: Path | str, timeout: float = 30.0, *, credentials: Credentials | None = None, name: str = ""
    ) -> None:
        if str(where).startswith("https:") and credentials is None:
            raise UserError(f"{where} needs the certificate of a caller. Give credentials")
        super().__init__(where, timeout, context=None if credentials is None else credentials.context(), name=name)

    def host(self) -> Data:
        """The host, its switch, its VPCs with revisions, and its ports."""
        return self._call("GET", "/v1/host")

    def confirm(self, vpcs: Sequence[str] | None = None) -> Data:
        """After a boot: these VPCs (None: all) are still placed on the host; ``waiting`` are those that are not yet."""
        return self._call("POST", "/v1/host/confirm", msgspec.json.encode({"vpcs": vpcs}))

    def ready(self) -> Data:
        """``ready`` and the ``reasons`` if it is not."""
        return self._call("GET", "/readyz", accept=(503,))

    def vpcs(self) -> Data:
        """What the host holds, by VPC: revision, enforced revision, owner, digest, and why it is held if it is."""
        return self._call("GET", "/v1/vpcs")

    def vpc(self, name: str) -> VpcState:
        """The state of one VPC as the agent holds it, without what only a later version knows."""
        return convert_known(self._call("GET", f"/v1/vpcs/{quote(name)}"), VpcState)

    def put(
        self,
        state: VpcState,
        *,
        wait: float = 0,
        adopt: bool = False,
        dry_run: bool = False,
        owner: str = "",
        if_match: int | None = None,
    ) -> Data:
        """Tell the whole state of a VPC; what became of it, or what it would change with ``dry_run``."""
        query = _query(wait=wait, adopt=adopt, dry_run=dry_run, owner=owner)
        path = f"/v1/vpcs/{quote(state.name)}{query}"
        return self._call("PUT", path, msgspec.json.encode(state), wait, if_match=if_match)

    def patch(
        self, vpc: str, change: Mapping[str, Any], *, wait: float = 0, dry_run: bool = False, owner: str = ""
    ) -> Data:
        """Tell a change: ``previous``, ``revision`` and objects by name (None: gone) by their collection."""
        query = _query(wait=wait, dry_run=dry_run, owner=owner)
        return self._call("PATCH", f"/v1/vpcs/{quote(vpc)}{query}", msgspec.json.encode(change), wait)

    def delete(self, vpc: str, *, wait: float = 0, dry_run: bool = False, owner: str = "") -> Data:
        """Tell that the host has nothing to do with a VPC any more."""
        query = _query(wait=wait, dry_run=dry_run, owner=owner)
        return self._call("DELETE", f"/v1/vpcs/{quote(vpc)}{query}", wait=wait)

    def batch(
        self,
        operations: Sequence[Any],
        *,
        wait: float = 0,
        adopt: bool = False,
        dry_run: bool = False,
        owner: str = "",
    ) -> Data:
        """Several operations, all or none: ``{"op": "put"|"patch"|"delete", "vpc": NAME, "body": ...}``."""
        query = _query(wait=wait, adopt=adopt, dry_run=dry_run, owner=owner)
        return self._call("POST", f"/v1/batch{query}", msgspec.json.encode(operations), wait)

    def objects(self, vpc: str, kind: str) -> Data:
        """The objects of a VPC by id; ``kind`` as a path names the collection, such as ``security-groups``."""
        return self._call("GET", f"/v1/vpcs/{quote(vpc)}/{kind}")

    def object(self, vpc: str, kind: str, ident: str) -> Data:
        """One object; a subnet's id is ``NETWORK:CIDR`` with ``-`` for ``/``. A port comes with how it stands."""
        return self._call("GET", f"/v1/vpcs/{quote(vpc)}/{kind}/{quote(ident)}")

    def put_object(
        self, vpc: str, kind: str, ident: str, body: Any, *, if_match: int | None = None, **manners: Any
    ) -> Data:
        """Declare one object; ``manners``: ``wait``, ``adopt``, ``dry_run``, ``owner``."""
        path = f"/v1/vpcs/{quote(vpc)}/{kind}/{quote(ident)}{_query(**manners)}"
        return self._call("PUT", path, msgspec.json.encode(body), manners.get("wait", 0), if_match=if_match)

    def delete_object(self, vpc: str, kind: str, ident: str, *, if_match: int | None = None, **manners: Any) -> Data:
        """Take one object away; ``manners`` as of :meth:`put_object`."""
        path = f"/v1/vpcs/{quote(vpc)}/{kind}/{quote(ident)}{_query(**manners)}"
        return self._call("DELETE", path, wait=manners.get("wait", 0), if_match=if_match)

    def workload(self, ident: str) -> Data:
        """All NICs of a machine."""
        return self._call("GET", f"/v1/workloads/{quote(ident)}")

    def put_workload(self, ident: str, workload: Any, **manners: Any) -> Data:
        """Declare all NICs of a machine: ``{"nics": [{"vpc", "name", "port", "network"?}], "hosts": {...}}``."""
        path = f"/v1/workloads/{quote(ident)}{_query(**manners)}"
        return self._call("PUT", path, msgspec.json.encode(workload), manners.get("wait", 0))

    def delete_workload(self, ident: str, **manners: Any) -> Data:
        """Take all NICs of a machine away."""
        return self._call("DELETE", f"/v1/workloads/{quote(ident)}{_query(**manners)}", wait=manners.get("wait", 0))

    def plug(self, vpc: str, name: str, *, wait: float = 0, **wanted: Any) -> Data:
        """Plug a port in; ``wanted``: ``kind`` (veth, tap, existing), ``interface``, ``peer``, ``mtu``."""
        return self._verb(vpc, name, "plug", wanted, wait=wait)

    def unplug(self, vpc: str, name: str) -> Data:
        """Undo what :meth:`plug` did for a port."""
        return self._verb(vpc, name, "unplug", None)

    def prepare(self, vpc: str, name: str, host: str, *, vtep: str | None = None, **manners: Any) -> Data:
        """A port is about to move to a host: from now on both get what is sent to it."""
        return self._verb(vpc, name, "prepare", {"host": host} | ({"vtep": vtep} if vtep else {}), **manners)

    def activate(self, vpc: str, name: str, host: str | None = None, **manners: Any) -> Data:
        """The port has moved; with ``host`` the call may be repeated."""
        return self._verb(vpc, name, "activate", {"host": host} if host else {}, **manners)

    def release(self, vpc: str, name: str, **manners: Any) -> Data:
        """Give a migration up, or unplug what has left this host."""
        return self._verb(vpc, name, "release", None, **manners)

    def trace(self, source: str, target: str, **packet: Any) -> Data:
        """A packet's way from a port (VPC/NAME) to another, or to an address; ``protocol``, ``port``, ``family``."""
        return self._call("POST", "/v1/trace", msgspec.json.encode({"source": source, "target": target, **packet}))

    def reports(self) -> Iterator[Data]:
        """What goes to whoever decides: a full report, and then what changes; raises as :meth:`events` does."""
        return (data for _, _, data in self.stream("/v1/reports"))

    def metrics(self) -> str:
        """The agent's metrics in the text format of Prometheus."""
        return self.text("/metrics")

    def openapi(self) -> Data:
        """The OpenAPI document of the agent's API."""
        return self._call("GET", "/openapi.json")

    def events(self, since: int | None = None) -> Iterator[tuple[int, str, Data]]:
        """What happens, as (serial, kind, data), until the agent ends; on a connection of its own.

        Raises AgentUnreachable, also when nothing, not even a heartbeat, came for ``timeout`` seconds.
        """
        return self.stream("/v1/events", since)

    def ports(self) -> Data:
        """The ports declared on this host: bound, OpenFlow port, enforced or why not."""
        return self._call("GET", "/v1/ports")

    def port(self, vpc: str, name: str) -> Data:
        """One port, with ``dropped``: the frames that port security has refused from it."""
        return self._call("GET", f"/v1/ports/{quote(vpc)}/{quote(name)}")

    def flows(self, *, source: str = "account", vpc: str | None = None, table: str | None = None) -> Data:
        """The flows of ours, in words and parts; ``source="switch"`` reads them back from the switch."""
        chosen = {"source": source} | ({"vpc": vpc} if vpc else {}) | ({"table": table} if table else {})
        return self._call("GET", f"/v1/flows?{urlencode(chosen)}")

    def _verb(self, vpc: str, name: str, verb: str, body: Any, **manners: Any) -> Any:
        path = f"/v1/vpcs/{quote(vpc)}/ports/{quote(name)}/{verb}{_query(**manners)}"
        encoded = None if body is None else msgspec.json.encode(body)
        return self._call("POST", path, encoded, manners.get("wait", 0))

    def _call(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        wait: float = 0,
        accept: Sequence[int] = (),
        if_match: int | None = None,
    ) -> Any:
        headers = {} if if_match is None else {"If-Match": f'"{if_match}"'}
        return self.call(method, path, body, headers=headers, wait=wait, accept=accept)


def _query(*, wait: float = 0, adopt: bool = False, dry_run: bool = False, owner: str = "") -> str:
    waited = f"{wait:.3f}s" if wait else None
    return query_text({"wait": waited, "adopt": adopt, "dry_run": dry_run, "owner": owner or None})
