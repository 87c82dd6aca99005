"""The controller's API for Python programs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias
from urllib.parse import quote

from ovsnet.http.client import ServiceClient
from ovsnet.model.types import Host, Model

Data: TypeAlias = Any
"""What JSON gives: for most calls a dictionary. Bodies may be dictionaries or the types of ovsnet.model."""


class ControllerClient(ServiceClient):
    """A client of the controller at ``address``: RUN_DIR/controller.sock, or ``https://HOST:PORT`` with a token.

    Every write takes ``wait`` (seconds to hold the answer back until every host enforces it), ``dry_run``, ``adopt``
    and ``owner`` as keywords; those on a VPC also ``if_match``, the revision that it must have.
    """

    service = "controller"

    def ready(self) -> Data:
        """``ready`` and the ``reasons`` if it is not."""
        return self.call("GET", "/readyz", accept=(503,))

    def apply(self, model: Model | Mapping[str, Any] | bytes, **manners: Any) -> Data:
        """What the model's name declares becomes this model."""
        return self.write("POST", "/v1/apply", model, **manners)

    def model(self) -> Data:
        """Everything that is declared."""
        return self.call("GET", "/v1/model")

    def batch(self, items: Iterable[Any], **manners: Any) -> Data:
        """Several VPCs, all or none: ``{"op": "put"|"patch"|"delete", "vpc": NAME, "body": ...}``."""
        return self.write("POST", "/v1/batch", list(items), **manners)

    def put_host(self, name: str, host: Host | Mapping[str, Any], **manners: Any) -> Data:
        """Declare a host."""
        return self.write("PUT", f"/v1/hosts/{quote(name)}", host, **manners)

    def delete_host(self, name: str, **manners: Any) -> Data:
        """Take a host away."""
        return self.write("DELETE", f"/v1/hosts/{quote(name)}", **manners)

    def hosts(self) -> Data:
        """The hosts by name."""
        return self.call("GET", "/v1/hosts")

    def vpcs(self) -> Data:
        """The VPCs by name, with revisions."""
        return self.call("GET", "/v1/vpcs")

    def vpc(self, name: str) -> Data:
        """A VPC with all its objects."""
        return self.call("GET", f"/v1/vpcs/{quote(name)}")

    def put_vpc(self, name: str, body: Any, **manners: Any) -> Data:
        """Declare a VPC: the owner's objects in it are these and no others."""
        return self.write("PUT", f"/v1/vpcs/{quote(name)}", body, **manners)

    def delete_vpc(self, name: str, **manners: Any) -> Data:
        """Take a VPC away with all that is in it."""
        return self.write("DELETE", f"/v1/vpcs/{quote(name)}", **manners)

    def get(self, vpc: str, kind: str, name: str) -> Data:
        """One object; ``kind`` as a path names the collection, such as ``security-groups``."""
        return self.call("GET", _object(vpc, kind, name))

    def put(self, vpc: str, kind: str, name: str, body: Any, **manners: Any) -> Data:
        """Declare one object."""
        return self.write("PUT", _object(vpc, kind, name), body, **manners)

    def delete(self, vpc: str, kind: str, name: str, **manners: Any) -> Data:
        """Take one object away."""
        return self.write("DELETE", _object(vpc, kind, name), **manners)

    def await_up(self, vpc: str, port: str, timeout: float) -> Data:
        """A port once its host says that it is up, or after ``timeout`` seconds."""
        query = {"wait": "up", "timeout": f"{timeout:.3f}s"}
        return self.call("GET", _object(vpc, "ports", port), query=query, wait=timeout)

    def prepare(self, vpc: str, port: str, host: str, **manners: Any) -> Data:
        """Have another host ready for a port."""
        return self.write("POST", f"{_object(vpc, 'ports', port)}/prepare", {"host": host}, **manners)

    def activate(self, vpc: str, port: str, host: str | None = None, **manners: Any) -> Data:
        """The port runs on the prepared host from now on."""
        body = None if host is None else {"host": host}
        return self.write("POST", f"{_object(vpc, 'ports', port)}/activate", body, **manners)

    def release(self, vpc: str, port: str, **manners: Any) -> Data:
        """The port stays where it runs, after all."""
        return self.write("POST", f"{_object(vpc, 'ports', port)}/release", **manners)

    def place(self, placements: Iterable[Any], **manners: Any) -> Data:
        """Ports run on other hosts from now on: ``{"port": "VPC/NAME", "host": HOST}``."""
        return self.write("POST", "/v1/placements", list(placements), **manners)

    def history(self, vpc: str) -> Data:
        """The latest revisions of a VPC."""
        return self.call("GET", f"/v1/vpcs/{quote(vpc)}/history")

    def rollback(self, vpc: str, revision: int, **manners: Any) -> Data:
        """Make a VPC as it was at a revision."""
        return self.write("POST", f"/v1/vpcs/{quote(vpc)}/rollback", {"revision": revision}, **manners)

    def status(self) -> Data:
        """Where every host stands."""
        return self.call("GET", "/v1/status")

    def audit(self, limit: int = 100) -> Data:
        """The latest calls that asked for a change."""
        return self.call("GET", "/v1/audit", query={"limit": limit})

    def follow(self, since: int | None = None) -> Iterator[tuple[int, str, Any]]:
        """What happens: serial, kind and data of each event, without an end."""
        return self.stream("/v1/events", since)

    def write(
        self, method: str, path: str, body: Any = None, *, wait: float = 0.0, if_match: int | None = None, **query: Any
    ) -> Data:
        """A write with the manners that all of them share."""
        asked = query | ({"wait": f"{wait:.3f}s"} if wait else {})
        headers = {} if if_match is None else {"If-Match": f'"{if_match}"'}
        return self.call(method, path, body, query=asked, headers=headers, wait=wait)


def _object(vpc: str, kind: str, name: str) -> str:
    return f"/v1/vpcs/{quote(vpc)}/{kind}/{quote(name)}"
