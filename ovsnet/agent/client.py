"""The agent's API for Python programs: HTTP over its unix socket, with nothing but the standard library and msgspec."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias
from urllib.parse import quote, urlencode

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
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class AgentClient:
    """A client of the agent that listens on ``path`` (RUN_DIR/agent.sock); not for several threads at once.

    Every method raises AgentUnreachable without an answer within ``timeout`` seconds (beyond ``wait``), and AgentError
    when the agent refuses. ``wait`` is in seconds: how long the answer may be held back until the change is enforced.
    """

    def __init__(self, path: Path | str, timeout: float = 30.0) -> None:
        self.path = Path(path)
        self.timeout = timeout
        self._connection: _UnixConnection | None = None

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

    def ready(self) -> Data:
        """``ready`` and the ``reasons`` if it is not."""
        return self._call("GET", "/readyz", accept=(503,))

    def vpcs(self) -> Data:
        """What the host holds, by VPC: revision, enforced revision, owner, digest, and why it is held if it is."""
        return self._call("GET", "/v1/vpcs")

    def vpc(self, name: str) -> VpcState:
        """The state of one VPC as the agent holds it."""
        return msgspec.convert(self._call("GET", f"/v1/vpcs/{quote(name)}"), VpcState)

    def put(self, state: VpcState, *, wait: float = 0, adopt: bool = False, dry_run: bool = False) -> Data:
        """Tell the whole state of a VPC; what became of it, or what it would change with ``dry_run``."""
        query = _query(wait=wait, adopt=adopt, dry_run=dry_run)
        return self._call("PUT", f"/v1/vpcs/{quote(state.name)}{query}", msgspec.json.encode(state), wait)

    def patch(self, vpc: str, change: Mapping[str, Any], *, wait: float = 0, dry_run: bool = False) -> Data:
        """Tell a change: ``previous``, ``revision`` and objects by name (None: gone) in ports, networks, hosts."""
        query = _query(wait=wait, dry_run=dry_run)
        return self._call("PATCH", f"/v1/vpcs/{quote(vpc)}{query}", msgspec.json.encode(change), wait)

    def delete(self, vpc: str, *, wait: float = 0, dry_run: bool = False) -> Data:
        """Tell that the host has nothing to do with a VPC any more."""
        return self._call("DELETE", f"/v1/vpcs/{quote(vpc)}{_query(wait=wait, dry_run=dry_run)}", wait=wait)

    def batch(
        self, operations: Sequence[Mapping[str, Any]], *, wait: float = 0, adopt: bool = False, dry_run: bool = False
    ) -> Data:
        """Several operations, all or none: ``{"op": "put"|"patch"|"delete", "vpc": NAME, "body": ...}``."""
        query = _query(wait=wait, adopt=adopt, dry_run=dry_run)
        return self._call("POST", f"/v1/batch{query}", msgspec.json.encode(operations), wait)

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

    def _call(
        self, method: str, path: str, body: bytes | None = None, wait: float = 0, accept: Sequence[int] = ()
    ) -> Any:
        status, answer = self._exchange(method, path, body, wait)
        try:
            data = msgspec.json.decode(answer) if answer else {}
        except msgspec.DecodeError:
            data = {"detail": answer.decode(errors="replace")}
        if status >= 400 and status not in accept:
            raise AgentError(status, data)
        return data

    def _exchange(self, method: str, path: str, body: bytes | None, wait: float) -> tuple[int, bytes]:
        """One request; a kept connection that was closed meanwhile is replaced once (every call may be repeated)."""
        for attempt in range(2):
            kept = self._connection is not None
            if self._connection is None:
                self._connection = _UnixConnection(self.path, self.timeout)
            try:
                if self._connection.sock is not None:
                    self._connection.sock.settimeout(self.timeout + wait)
                else:
                    self._connection.timeout = self.timeout + wait
                headers = {"Content-Type": "application/json"} if body is not None else {}
                self._connection.request(method, path, body, headers)
                response = self._connection.getresponse()
                return response.status, response.read()
            except (OSError, http.client.HTTPException) as exc:
                self.close()
                if not kept or attempt or isinstance(exc, TimeoutError):
                    reason = getattr(exc, "strerror", None) or str(exc) or type(exc).__name__
                    raise AgentUnreachable(f"no agent answers on {self.path}: {reason}. Is it running?") from None
        raise AssertionError("unreachable")


def _query(*, wait: float = 0, adopt: bool = False, dry_run: bool = False) -> str:
    chosen = {}
    if wait:
        chosen["wait"] = f"{wait:.3f}s"
    if adopt:
        chosen["adopt"] = "true"
    if dry_run:
        chosen["dry_run"] = "true"
    return f"?{urlencode(chosen)}" if chosen else ""
