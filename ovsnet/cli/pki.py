"""``ovsnet pki``: certificates of hosts and callers, the bus's permissions, tokens of the controller's API."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ovsnet.cli.common import AsJson, console, print_json, write
from ovsnet.errors import UserError

if TYPE_CHECKING:
    from ovsnet.pki.authority import Directory, Outcome

AUTHORITY_DAYS = 3650
SOON = timedelta(days=30)
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The directory with the authorities and what they issued.")]
Named = Annotated[str, typer.Argument(metavar="NAME", help="Of a-z, 0-9, - and _.")]
Served = Annotated[
    str, typer.Argument(metavar="NAME[=ADDRESS,...]", help="Its name, and more DNS names and IP addresses it serves.")
]
Days = Annotated[int, typer.Option("--days", min=1, max=AUTHORITY_DAYS, help="How long a certificate is valid.")]
Renew = Annotated[bool, typer.Option("--renew", help="Make a new key and certificate even if there is one.")]

app = typer.Typer(help="Who may know what: certificates, the bus's permissions, and tokens.", no_args_is_help=True)


class Revocable(StrEnum):
    """What can be revoked."""

    HOST = "host"
    CALLER = "caller"
    CLIENT = "client"
    SERVER = "server"
    TOKEN = "token"


class RoleName(StrEnum):
    """The roles of the controller's API."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"


@app.command("init")
def init_command(
    folder: Folder,
    host: Annotated[
        list[str] | None, typer.Option("--host", metavar="NAME[=ADDRESS,...]", help="A hypervisor; may be repeated.")
    ] = None,
    model: Annotated[
        list[Path] | None, typer.Option("--model", "-m", metavar="MODEL", help="All hosts of a model, at their VTEPs.")
    ] = None,
    controller: Annotated[
        str, typer.Option("--controller", metavar="NAME[=ADDRESS,...]", help="The controller and where its API is.")
    ] = "controller=localhost,127.0.0.1",
    nats: Annotated[
        str, typer.Option("--nats", metavar="NAME[=ADDRESS,...]", help="The nats-server and where it is.")
    ] = "nats=localhost,127.0.0.1",
    days: Days = 365,
    as_json: AsJson = False,
) -> None:
    """Make a working set: the authorities, a certificate for each host, for the controller and for the nats-server.

    Run it again to add what is missing; what is there is kept.

    Example: ovsnet pki init pki --model cloud.yaml --nats nats=10.0.0.2 --controller controller=10.0.0.3
    """
    from ovsnet.pki.authority import Request
    from ovsnet.pki.names import Kind
    from ovsnet.pki.natsfile import CONFIGURATION, configure, refresh

    hosts = _merged([*_model_hosts(model or []), *map(_served, host or [])])
    controller_name, controller_at = _served(controller)
    nats_name, nats_at = _served(nats)
    requests = [Request(Kind.HOST, name, addresses) for name, addresses in hosts]
    requests += [
        Request(Kind.PUBLISHER, controller_name),
        Request(Kind.SERVER, controller_name, controller_at),
        Request(Kind.SERVER, nats_name, nats_at),
    ]
    with _writing(folder, new=True) as directory:
        made = directory.make_authorities(_now(), timedelta(days=AUTHORITY_DAYS))
        outcomes = directory.issue(requests, _now(), timedelta(days=days))
        directory.refresh_trust()
        paths = refresh(directory)
        if not (folder / "servers" / nats_name / CONFIGURATION).exists():
            paths.append(configure(directory, nats_name)[0])
    _print(folder, outcomes, paths, as_json, authorities=[str(one) for one in made])


@app.command("host")
def host_command(folder: Folder, name: Served, renew: Renew = False, days: Days = 365, as_json: AsJson = False) -> None:
    """Make a hypervisor's certificate: it reads what is told to it, and reports, and accepts callers.

    Example: ovsnet pki host pki hv3=10.0.0.13
    """
    _issue(folder, "host", *_served(name), renew, days, as_json)


@app.command("caller")
def caller_command(
    folder: Folder,
    name: Named,
    publisher: Annotated[
        bool, typer.Option("--publisher", help="It also tells hosts over the bus, as the controller does.")
    ] = False,
    renew: Renew = False,
    days: Days = 365,
    as_json: AsJson = False,
) -> None:
    """Make the certificate of one that may call the API of every host.

    Example: ovsnet pki caller pki orchestrator
    """
    _issue(folder, "publisher" if publisher else "caller", name, (), renew, days, as_json)


@app.command("client")
def client_command(
    folder: Folder, name: Named, renew: Renew = False, days: Days = 365, as_json: AsJson = False
) -> None:
    """Make the certificate of one that only hands changes to the controller over the bus; no host lets it in.

    Example: ovsnet pki client pki billing
    """
    _issue(folder, "client", name, (), renew, days, as_json)


@app.command("server")
def server_command(
    folder: Folder, name: Served, renew: Renew = False, days: Days = 365, as_json: AsJson = False
) -> None:
    """Make the certificate of a nats-server or of a controller's API.

    Example: ovsnet pki server pki nats2=10.0.0.4,nats2.example.net
    """
    _issue(folder, "server", *_served(name), renew, days, as_json)


@app.command("renew")
def renew_command(
    folder: Folder,
    within: Annotated[int, typer.Option("--within", min=0, help="Those that end within so many days.")] = 30,
    days: Days = 365,
    as_json: AsJson = False,
) -> None:
    """Renew each certificate that ends soon, with a new key, for whom and where it is. Old ones work on until they end.

    Example: ovsnet pki renew pki --within 60
    """
    with _writing(folder) as directory:
        outcomes = directory.renew(_now(), timedelta(days=days), timedelta(days=within))
    _print(folder, outcomes, [], as_json)


@app.command("revoke")
def revoke_command(
    folder: Folder,
    kind: Annotated[Revocable, typer.Argument(metavar="KIND", help="host, caller, client, server or token.")],
    name: Named,
    as_json: AsJson = False,
) -> None:
    """Revoke all certificates of a name, or a token. A certificate made for the name afterwards works.

    Example: ovsnet pki revoke pki host hv3
    """
    from ovsnet.pki.names import Kind
    from ovsnet.pki.natsfile import refresh

    with _writing(folder) as directory:
        if kind is Revocable.TOKEN:
            _change_tokens(folder, name, None)
            count, paths = 1, []
        else:
            count, paths = directory.revoke(Kind(kind), name, _now()), refresh(directory)
    if as_json:
        print_json({"revoked": count, "kind": str(kind), "name": name, "nats": [str(path) for path in paths]})
        return
    if kind is Revocable.TOKEN:
        write(f"The token {name} is revoked; a controller that reads {folder}/tokens.json refuses it from now on.\n")
        return
    write(f"Revoked {count} certificate{'s' if count > 1 else ''} of {kind} {name}.\n")
    _print_reload(paths)
    write(f"Those who verify it directly need the new *-ca.pem of their folder in {folder}.\n")


@app.command("token")
def token_command(
    folder: Folder,
    name: Named,
    role: Annotated[RoleName, typer.Option("--role", help="read, write (and read), or admin (all).")],
    tenant: Annotated[
        list[str] | None, typer.Option("--tenant", metavar="T", help="Only this tenant; may be repeated.")
    ] = None,
    days: Annotated[
        int | None, typer.Option("--days", min=1, help="Valid for so long; left out: until revoked.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a token of the controller's API and print it, once: only its digest is kept, in tokens.json.

    Example: ovsnet pki token pki deploy --role write --tenant acme
    """
    from ovsnet.pki.names import checked_name
    from ovsnet.pki.tokens import make_token

    tenants = None if tenant is None else tuple(checked_name("tenant", one) for one in tenant)
    valid = None if days is None else timedelta(days=days)
    text, token = make_token(checked_name("token", name), role.value, tenants, _now(), valid)
    with _writing(folder):
        _change_tokens(folder, name, token)
    if as_json:
        expires = None if token.expires is None else token.expires.isoformat()
        print_json({"token": text, "name": name, "role": role, "tenants": tenants, "expires": expires})
    else:
        write(text + "\n")


@app.command("list")
def list_command(folder: Folder, as_json: AsJson = False) -> None:
    """List authorities, certificates and tokens with their ends.

    Example: ovsnet pki list pki
    """
    from ovsnet.pki.authority import Directory
    from ovsnet.pki.names import Authority

    directory = Directory(folder)
    rows: list[dict[str, Any]] = []
    for authority in Authority:
        end = directory.issuer(authority).certificate.not_valid_after_utc
        rows.append({"kind": "authority", "name": str(authority), "expires": end, "for": "signs"})
    for held in directory.held():
        one = held.identity
        rows.append({"kind": str(one.kind), "name": one.name, "expires": held.not_after, "for": _list(held.addresses)})
    for token in _tokens(folder).tokens:
        good_for = f"{token.role}: {'all tenants' if token.tenants is None else _list(token.tenants)}"
        rows.append({"kind": "token", "name": token.name, "expires": token.expires, "for": good_for})
    if as_json:
        print_json([row | {"expires": row["expires"] and row["expires"].isoformat()} for row in rows])
    else:
        _print_table(rows)


@app.command("nats")
def nats_command(
    folder: Folder,
    server: Annotated[str, typer.Option("--server", metavar="NAME", help="Whose configuration.")] = "nats",
    listen: Annotated[str | None, typer.Option("--listen", help="ADDRESS:PORT; at first 0.0.0.0:4222.")] = None,
    tls_dir: Annotated[
        str | None, typer.Option("--tls-dir", help="Where the server's folder is on its machine; at first where it is.")
    ] = None,
    max_payload: Annotated[
        int | None, typer.Option("--max-payload", min=65536, max=64 << 20, help="Bytes; at first 1 MiB.")
    ] = None,
    prefix: Annotated[str | None, typer.Option("--prefix", help="What subjects begin with; at first ovsnet.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write the nats-server configuration: every certificate that the directory holds, and what its holder may do.

    Options are remembered. The commands that make or revoke certificates write the file again.

    Example: ovsnet pki nats pki --listen 10.0.0.2:4222 --tls-dir /etc/nats/ovsnet
    """
    from ovsnet.pki.natsfile import configure

    with _writing(folder) as directory:
        options = {"listen": listen, "tls_dir": tls_dir, "prefix": prefix}
        path, users = configure(directory, server, max_payload=max_payload, **options)
    if as_json:
        print_json({"path": str(path), "users": users})
        return
    write(f"{path}: {users} users.\n")
    _print_reload([path])


def _issue(
    folder: Path, kind: str, name: str, addresses: tuple[str, ...], renew: bool, days: int, as_json: bool
) -> None:
    from ovsnet.pki.authority import Request
    from ovsnet.pki.names import Kind
    from ovsnet.pki.natsfile import refresh

    with _writing(folder) as directory:
        request = Request(Kind(kind), name, addresses)
        outcomes = directory.issue([request], _now(), timedelta(days=days), renew=renew)
        paths = refresh(directory)
    _print(folder, outcomes, paths, as_json)


@contextmanager
def _writing(folder: Path, *, new: bool = False) -> Iterator[Directory]:
    """The directory, held against other commands. Raises UserError for one that is not there, unless it may be new."""
    from ovsnet.pki.authority import Directory
    from ovsnet.pki.files import locked

    if not new and not (folder / "authorities").is_dir():
        raise UserError(f"{folder} has no authorities. Make them first: ovsnet pki init {folder}")
    with locked(folder):
        yield Directory(folder)


def _served(text: str) -> tuple[str, tuple[str, ...]]:
    """NAME and addresses of NAME=ADDRESS,...; the certificate's maker checks them."""
    name, equals, rest = text.partition("=")
    return name, tuple(one.strip() for one in rest.split(",")) if equals else ()


def _model_hosts(files: list[Path]) -> list[tuple[str, tuple[str, ...]]]:
    if not files:
        return []
    from ovsnet.model import load

    return [(name, (host.vtep,)) for name, host in load(files).hosts.items()]


def _merged(hosts: Iterable[tuple[str, tuple[str, ...]]]) -> list[tuple[str, tuple[str, ...]]]:
    found: dict[str, tuple[str, ...]] = {}
    for name, addresses in hosts:
        found[name] = tuple(dict.fromkeys((*found.get(name, ()), *addresses)))
    return list(found.items())


def _tokens(folder: Path) -> Any:
    from ovsnet.pki.tokens import TokenSet, parse_tokens

    path = folder / "tokens.json"
    return parse_tokens(path.read_bytes(), str(path)) if path.exists() else TokenSet()


def _change_tokens(folder: Path, name: str, token: Any | None) -> None:
    """Add a token of a new name, or with ``None`` remove the one of this name."""
    from ovsnet.pki.files import write_file
    from ovsnet.pki.tokens import TokenSet, tokens_text

    tokens = _tokens(folder).tokens
    known = any(one.name == name for one in tokens)
    if token is not None and known:
        raise UserError(f"There is a token {name} already. Revoke it first: ovsnet pki revoke {folder} token {name}")
    if token is None and not known:
        raise UserError(f"There is no token {name}. 'ovsnet pki list {folder}' shows those there are.")
    left = tuple(one for one in tokens if one.name != name)
    write_file(folder / "tokens.json", tokens_text(TokenSet(left if token is None else (*left, token))))


def _print(
    folder: Path, outcomes: list[Outcome], paths: list[Path], as_json: bool, authorities: list[str] | None = None
) -> None:
    if as_json:
        rows = [
            {
                "action": one.action,
                "kind": str(one.held.identity.kind),
                "name": one.held.identity.name,
                "uri": one.held.identity.uri,
                "folder": str(folder / one.held.identity.folder),
                "addresses": list(one.held.addresses),
                "expires": one.held.not_after.isoformat(),
                "note": one.note,
            }
            for one in outcomes
        ]
        print_json({"authorities": authorities or [], "certificates": rows, "nats": [str(path) for path in paths]})
        return
    for name in authorities or []:
        write(f"made     authority {name}\n")
    for one in outcomes:
        place, end = folder / one.held.identity.folder, f"{one.held.not_after:%Y-%m-%d}"
        write(f"{one.action:8} {place}/ ({one.held.identity.kind}, until {end}){f': {one.note}' if one.note else ''}\n")
    _print_reload(paths)


def _print_reload(paths: list[Path]) -> None:
    for path in paths:
        write(f"Written: {path}. A nats-server that runs with it takes it up with: kill -HUP PID\n")


def _print_table(rows: list[dict[str, Any]]) -> None:
    from rich.table import Table

    table = Table("kind", "name", "expires", "", "for", box=None, pad_edge=False, header_style="bold")
    for row in rows:
        end = row["expires"]
        table.add_row(row["kind"], row["name"], f"{end:%Y-%m-%d}" if end else "never", _urgency(end), row["for"])
    out = console()
    if not out.is_terminal:
        out.width = 1000  # a pipe has no width: rows stay whole there
    out.print(table)


def _urgency(end: datetime | None) -> str:
    if end is None or end > _now() + SOON:
        return ""
    return "[red]expired[/]" if end <= _now() else "[yellow]soon[/]"


def _list(items: Iterable[str]) -> str:
    return " ".join(items)


def _now() -> datetime:
    return datetime.now(UTC)
