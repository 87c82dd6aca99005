"""What tests of the controller share: a core on a store of its own, requests, and a real PostgreSQL."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ovsnet.controller.client import ControllerClient
from ovsnet.controller.commit import Committed
from ovsnet.controller.core import Core
from ovsnet.controller.requests import Edit, PutHost, PutObject, PutVpc, Request
from ovsnet.controller.store import Store, sqlite_url
from ovsnet.controller.truth import Truth
from ovsnet.errors import UserError
from ovsnet.model.types import Host, Network, Subnet
from ovsnet.transport.digest import digest_text, state_sum

POSTGRES = Path("/usr/lib/postgresql/15/bin")


def core_at(directory: Path) -> Core:
    """A core with a SQLite store in a directory."""
    return Core(Store(sqlite_url(directory / "controller.db")), "controller")


def change(core: Core, *edits: Edit, owner: str = "me", adopt: bool = False, **more: object) -> Committed:
    """One transaction."""
    request = Request(edits, owner, owner, "test", adopt, **more)  # type: ignore[arg-type]
    return core.transact(lambda _: request)


def cloud(core: Core, hosts: int = 3) -> None:
    """Hosts h0, h1, ..., and a VPC shop with a network web of 10.1.0.0/24."""
    change(core, *(PutHost(f"h{number}", Host(vtep=f"10.0.0.{number + 1}")) for number in range(hosts)))
    web = Network(subnets=(Subnet(cidr="10.1.0.0/24"),))
    change(core, PutVpc("shop"), PutObject("shop", "networks", "web", web))


def same_truth(one: Truth, other: Truth) -> None:
    """Two truths are equal, and all that is derived from them is what it would be if it were made anew."""
    assert one.vpcs.keys() == other.vpcs.keys()
    assert one.hosts == other.hosts
    assert one.retired == other.retired
    assert (one.underlay, one.underlay_owner) == (other.underlay, other.underlay_owner)
    assert one.host_vpcs == other.host_vpcs
    assert one.port_ids == other.port_ids
    assert one.vnis == other.vnis
    assert {key: set(ports) for key, ports in one.workloads.items()} == {
        key: set(ports) for key, ports in other.workloads.items()
    }
    for name, vpc in one.vpcs.items():
        twin = other.vpcs[name]
        assert vpc.live == twin.live
        assert vpc.meta == twin.meta
        assert {key: vpc.owner_of(*key) for key in vpc.owners} == {key: twin.owner_of(*key) for key in vpc.owners}
        assert vpc.counts == twin.counts
        assert vpc.interested == vpc.live.hosts.keys()
        assert vpc.live.hosts == {host: one.hosts[host].host.vtep for host in vpc.interested}
        assert vpc.head == (vpc.live.revision, digest_text(state_sum(vpc.live))) == twin.head
        assert vpc.lists == twin.lists
        for network in vpc.live.networks:
            assert dict(vpc.index.users(network)) == dict(twin.index.users(network))


@contextmanager
def controller(directory: Path, *options: str, ends: int = 0) -> Iterator[ControllerClient]:
    """A controller in a directory, ended by its process id; ``ends``: the status that it ends with."""
    command = [sys.executable, "-m", "ovsnet.controller.main", "--run-dir", str(directory), *options]
    with (directory / "log").open("ab") as log:
        process = subprocess.Popen([*command, "--store", f"sqlite:///{directory / 'c.db'}"], stderr=log)
    try:
        with ControllerClient(directory / "controller.sock") as client:
            deadline = time.monotonic() + 20
            while True:
                try:
                    client.ready()
                    break
                except UserError:
                    assert process.poll() is None and time.monotonic() < deadline, (directory / "log").read_text()
                    time.sleep(0.05)
            yield client
    finally:
        process.terminate()
        assert process.wait(10) == ends


@contextmanager
def postgres() -> Iterator[str]:
    """A PostgreSQL server of its own, on a unix socket alone; gives the URL of its database."""
    directory = Path(tempfile.mkdtemp(prefix="ovsnet-pg-", dir="/tmp"))
    user = pwd.getpwnam("postgres") if os.geteuid() == 0 else None
    identity = {} if user is None else {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    try:
        if user is not None:
            os.chown(directory, user.pw_uid, user.pw_gid)
        data = directory / "data"
        init = [POSTGRES / "initdb", "-D", data, "-U", "ovsnet", "-A", "trust", "-E", "UTF8", "--no-sync", "--locale=C"]
        subprocess.run(init, check=True, capture_output=True, cwd=directory, **identity)  # type: ignore[call-overload]
        command = [POSTGRES / "postgres", "-D", data, "-k", directory, "-c", "listen_addresses="]
        log = (directory / "log").open("wb")
        server = subprocess.Popen(command, stdout=log, stderr=log, cwd=directory, **identity)  # type: ignore[call-overload]
        try:
            deadline = time.monotonic() + 20
            ready = [POSTGRES / "pg_isready", "-q", "-h", directory, "-U", "ovsnet", "-d", "postgres"]
            while subprocess.run(ready, check=False).returncode:
                assert server.poll() is None and time.monotonic() < deadline, (directory / "log").read_text()
                time.sleep(0.05)
            yield f"postgresql+psycopg://ovsnet@/postgres?host={directory}"
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(10)
            log.close()
    finally:
        shutil.rmtree(directory)
