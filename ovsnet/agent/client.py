"""The agent's API for Python programs: HTTP over its unix socket, or by TLS, with the standard library and msgspec."""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from ovsnet.errors import EXIT_UNAVAILABLE, UserError
from ovsnet.model.types import VpcState

Data: TypeAlias = Any
"""What JSON gives: for most calls a dictionary."""


class AgentError(UserError):
    """The agent refused a request: HTTP ``status``, stable ``code``, and the whole problem document."""

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        super().__init__(str(problem.get("detail", f"HTTP status {status}")))
        self.status = status
        self.code = str(problem.get("code", ""))
        self.problem = dict(problem)


class AgentUnreachable(UserError):
    """Nobody answers on the agent's socket."""

    exit_code = EXIT_UNAVAILABLE


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


@dataclass(frozen=True)
class Credentials:
    """PEM files of a caller: its certificate and key, and the authority that hosts' certificates are held to."""

    cert: Path
    key: Path
    ca: Path

    def context(self) -> ssl.SSLContext:
        """For TLS. Raises UserError when the files cannot be used."""
        try:
            context = ssl.create_default_context(cafile=str(self.ca))
            context.load_cert_chain(self.cert, self.key)
        except (OSError, ssl.SSLError) as exc:
            raise UserError(f"{self.cert}, {self.key}, {self.ca}: not usable for TLS: {exc}") from None
        return context


class AgentClient:
    """A client of the agent at ``where``; not for several threads at once.

    ``where`` is the path of its socket (RUN_DIR/agent.sock), ``unix:PATH``, or ``https://ADDRESS:PORT`` with
    ``credentials``; ``name`` is then what the host's certificate has to say, if not the address.

    Every method raises AgentUnreachable without an answer within ``timeout`` seconds (beyond ``wait``), and AgentError
    when the agent refuses. ``wait`` is in seconds: how long the answer may be held back until the change is enforced.
    ``owner`` says in whose name a change is made, ``adopt`` takes over what is another's, ``if_match`` permits it only
    at that revision of the VPC.
    """

    def __init__(
        self, where: Path | str, timeout: float = 30.0, *, credentials: Credentials | None = None, name: str = ""
    ) -> None:
        self.where = str(where)
        self.timeout = timeout
        self.name = name
        self._context = credentials.context() if credentials is not None else None
        self._connection: http.client.HTTPConnection | None = None
        if self.where.startswith("https://") and credentials is None:
            raise UserError(f"{self.where} needs the certificate of a caller. Give credentials")

    @property
    def path(self) -> Path:
        """The path of the agent's socket, where it is one."""
        return Path(self.where.removeprefix("unix:"))

    def close(self) -> None:
        """Close the connection; the next call opens a new one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __enter__(self) -> AgentClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

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
        """The state of one VPC as the agent holds it."""
        return msgspec.convert(self._call("GET", f"/v1/vpcs/{quote(name)}"), VpcState)

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
        """Tell a change: ``previous``, ``revision`` and objects by name (None: gone) in ports, networks, hosts."""
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
        """The objects of a VPC by id; ``kind``: networks, subnets, ports or endpoints."""
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
        return (data for _, _, data in self._stream("/v1/reports"))

    def metrics(self) -> str:
        """The agent's metrics in the text format of Prometheus."""
        return self._exchange("GET", "/metrics", None, 0, None)[1].decode()

    def openapi(self) -> Data:
        """The OpenAPI document of the agent's API."""
        return self._call("GET", "/openapi.json")

    def events(self, since: int | None = None) -> Iterator[tuple[int, str, Data]]:
        """What happens, as (serial, kind, data), until the agent ends; on a connection of its own.

        Raises AgentUnreachable, also when nothing, not even a heartbeat, came for ``timeout`` seconds.
        """
        return self._stream("/v1/events" if since is None else f"/v1/events?since={since}")

    def _stream(self, path: str) -> Iterator[tuple[int, str, Data]]:
        connection = self._connect(self.timeout)
        try:
            connection.request("GET", path)
            yield from _events(connection.getresponse())
        except (OSError, http.client.HTTPException) as exc:
            raise self._unreachable(exc) from None
        finally:
            connection.close()

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
        status, answer = self._exchange(method, path, body, wait, if_match)
        try:
            data = msgspec.json.decode(answer) if answer else {}
        except msgspec.DecodeError:
            data = {"detail": answer.decode(errors="replace")}
        if status >= 400 and status not in accept:
            raise AgentError(status, data)
        return data

    def _exchange(
        self, method: str, path: str, body: bytes | None, wait: float, if_match: int | None
    ) -> tuple[int, bytes]:
        """One request; a kept connection that was closed meanwhile is replaced once (every call may be repeated)."""
        headers = {"Content-Type": "application/json"} if body is not None else {}
        if if_match is not None:
            headers["If-Match"] = f'"{if_match}"'
        for attempt in range(2):
            kept = self._connection is not None
            if self._connection is None:
                self._connection = self._connect(self.timeout + wait)
            try:
                if self._connection.sock is not None:
                    self._connection.sock.settimeout(self.timeout + wait)
                self._connection.request(method, path, body, headers)
                response = self._connection.getresponse()
                return response.status, response.read()
            except (OSError, http.client.HTTPException) as exc:
                self.close()
                if not kept or attempt or isinstance(exc, TimeoutError):
                    raise self._unreachable(exc) from None
        raise AssertionError("unreachable")

    def _connect(self, timeout: float) -> http.client.HTTPConnection:
        """A connection that opens with its first request."""
        if self._context is None:
            return _UnixConnection(str(self.path), timeout)
        address = urlsplit(self.where)
        return _TlsConnection(address.hostname or "", address.port or 443, timeout, self._context, self.name)

    def _unreachable(self, exc: Exception) -> AgentUnreachable:
        reason = getattr(exc, "strerror", None) or str(exc) or type(exc).__name__
        return AgentUnreachable(f"no agent answers on {self.where}: {reason}. Is it running?")


class _TlsConnection(http.client.HTTPSConnection):
    def __init__(self, address: str, port: int, timeout: float, context: ssl.SSLContext, name: str) -> None:
        super().__init__(address, port, timeout=timeout, context=context)
        self._tls, self._name = context, name or address

    def connect(self) -> None:
        http.client.HTTPConnection.connect(self)
        self.sock = self._tls.wrap_socket(self.sock, server_hostname=self._name)


def _events(response: http.client.HTTPResponse) -> Iterator[tuple[int, str, Data]]:
    """The events of a stream of server-sent events."""
    fields: dict[str, str] = {}
    for raw in response:
        name, _, value = raw.decode().rstrip("\n").partition(": ")
        if name:
            fields[name] = value
        elif "data" in fields:
            yield int(fields.get("id", 0)), fields["event"], msgspec.json.decode(fields["data"])
            fields = {}


def _query(*, wait: float = 0, adopt: bool = False, dry_run: bool = False, owner: str = "") -> str:
    chosen = {}
    if wait:
        chosen["wait"] = f"{wait:.3f}s"
    if adopt:
        chosen["adopt"] = "true"
    if dry_run:
        chosen["dry_run"] = "true"
    if owner:
        chosen["owner"] = owner
    return f"?{urlencode(chosen)}" if chosen else ""
