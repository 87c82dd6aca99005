"""Writes what the machines are given into ``build/vagrant``: model, workloads, certificates, and the package.

    python -m vagrant.stage

``OVSNET_HYPERVISORS`` is their number, 3 by default. Machines then need no network: what the wheel depends on is there
too, for the Python that runs this, which has to be Debian 12's version.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ovsnet.errors import EXIT_MISTAKE, UserError
from ovsnet.lab.topology import WorkloadSpec, topology
from ovsnet.model import Lock, assign, load
from ovsnet.pki.authority import Directory, Request
from ovsnet.pki.files import locked
from ovsnet.pki.names import Kind
from ovsnet.pki.natsfile import configure

TREE = Path(__file__).resolve().parents[1]
BUILT = TREE / "build" / "vagrant"
SITE = BUILT / "site"
"""What every machine gets, in /srv/ovsnet."""
KEYS = BUILT / "keys"
"""What one machine alone gets, in /srv/ovsnet-keys: its certificates, in a folder of its name."""
CONTROLLER = "controller"
UNDERLAY = "192.168.57"
"""The private network's first three bytes; VirtualBox takes no other than 192.168.56.0/21 unless it is told to."""
ENCAPSULATIONS = ("vxlan", "geneve")
TENANTS = {"red": 5001, "blue": 6001}
"""Tenants, with the VNI of each one's network."""
OPEN, SHUT = 80, 81
"""TCP ports that the workloads' security group lets in, and does not."""
ALONE = "only"
"""The port that blue has and red has not."""
_SOURCES = ("ovsnet", "packaging", "examples", "pyproject.toml", "setup.py", "README.md", "LICENSE")
PREFIX = "/opt/ovsnet"
"""Where the package is in a machine: its systemd units look there first."""
_PIP = ("--quiet", "--disable-pip-version-check")
_VALID = timedelta(days=365)


def hypervisors() -> list[str]:
    """Their names, ``OVSNET_HYPERVISORS`` of them. Raises UserError for what is no number from 2 to 89."""
    text = os.environ.get("OVSNET_HYPERVISORS", "3")
    if not text.isdecimal() or not 2 <= int(text) <= 89:
        raise UserError(f"OVSNET_HYPERVISORS={text}: that is no number from 2 to 89. Set it to one, such as 3.")
    return [f"hv{number}" for number in range(1, int(text) + 1)]


def address(machine: str) -> str:
    """A machine's address on the private network, where the Vagrantfile puts it: a hypervisor's is its VTEP."""
    return f"{UNDERLAY}.{2 if machine == CONTROLLER else 10 + int(machine.removeprefix('hv'))}"


def cloud(hosts: list[str]) -> dict[str, Any]:
    """The model of the lab: on each host a machine of both tenants, with the very same MAC and addresses."""
    rules: list[dict[str, Any]] = [{"direction": "ingress", "protocol": name} for name in ("icmp", "icmpv6")]
    rules.append({"direction": "ingress", "protocol": "tcp", "port": OPEN})
    vpcs: dict[str, Any] = {}
    for tenant, vni in TENANTS.items():
        ports = {f"web{number}": _port(host, number) for number, host in enumerate(hosts, start=1)}
        if tenant == "blue":
            ports[ALONE] = _port(hosts[0], 90)
        subnets = [{"cidr": "192.168.1.0/24", "gateway": "192.168.1.1"}, {"cidr": "2001:db8:1::/64"}]
        vpcs[tenant] = {
            "networks": {"web": {"vni": vni, "subnets": subnets}},
            "security_groups": {"web": {"rules": rules}},
            "ports": ports,
        }
    return {"version": 1, "name": "vagrant", "hosts": _hosts(hosts), "vpcs": vpcs}


def _hosts(hosts: list[str]) -> dict[str, Any]:
    return {host: {"vtep": address(host)} for host in hosts}


def _port(host: str, number: int) -> dict[str, Any]:
    return {
        "network": "web",
        "host": host,
        "mac": f"02:00:00:00:01:{number:02x}",
        "ips": [f"192.168.1.{10 + number}", f"2001:db8:1::{10 + number}"],
        "security_groups": ["web"],
    }


def workloads(model: Path, site: Path) -> list[WorkloadSpec]:
    """The workloads of a model file with a site file, as a lab on the kernel's datapath has them."""
    complete, _ = assign(load([model], site=site), Lock())
    return list(topology(complete, "vagrant", "system").workloads.values())


def write_site(hosts: list[str]) -> None:
    """Model, site files, the workloads of each host, and what runs in the machines; all anew."""
    shutil.rmtree(SITE, ignore_errors=True)
    SITE.mkdir(parents=True)
    model = SITE / "model.json"
    model.write_text(json.dumps(cloud(hosts), indent=1))
    for name in ENCAPSULATIONS:
        site = {"version": 1, "underlay": {"encapsulation": name}, "hosts": _hosts(hosts)}
        (SITE / f"site-{name}.json").write_text(json.dumps(site, indent=1))
    for one in workloads(model, SITE / f"site-{ENCAPSULATIONS[0]}.json"):
        place = SITE / "workloads" / one.host / f"{one.vpc}-{one.port}.env"
        place.parent.mkdir(parents=True, exist_ok=True)
        values = {"ID": one.id, "TAP": one.tap, "MAC": one.mac, "MTU": str(one.mtu)}
        values |= {"ADDRESSES": " ".join(one.addresses), "GATEWAYS": " ".join(one.gateways)}
        place.write_text("".join(f'{name}="{value}"\n' for name, value in values.items()))
    here = TREE / "vagrant"
    for source in (here / "provision.sh", here / "packages.txt", *(here / "guest").iterdir()):
        shutil.copy2(source, SITE)


def write_keys(hosts: list[str]) -> None:
    """Certificates, made once and kept in ``build/vagrant/pki``; and the folder of each machine, anew."""
    pki = BUILT / "pki"
    now = datetime.now(UTC)
    at = (address(CONTROLLER),)
    wanted = [Request(Kind.HOST, host, (address(host),)) for host in hosts]
    wanted += [
        Request(Kind.PUBLISHER, CONTROLLER),
        Request(Kind.SERVER, CONTROLLER, at),
        Request(Kind.SERVER, "nats", at),
    ]
    pki.mkdir(parents=True, exist_ok=True)
    with locked(pki):
        directory = Directory(pki)
        directory.make_authorities(now, _VALID)
        directory.issue(wanted, now, _VALID)
        directory.refresh_trust()
        configure(directory, "nats", listen=f"{at[0]}:4222", tls_dir="/etc/nats/ovsnet")
    shutil.rmtree(KEYS, ignore_errors=True)
    for host in hosts:
        shutil.copytree(pki / "hosts" / host, KEYS / host / "tls")
    shutil.copytree(pki / "callers" / CONTROLLER, KEYS / CONTROLLER / "tls")
    shutil.copytree(pki / "servers" / "nats", KEYS / CONTROLLER / "nats")


def write_package() -> None:
    """A wheel of the tree, installed with what it depends on as in /opt/ovsnet, in an archive that a machine unpacks.

    An emulated processor needs ten minutes for what pip does. Raises UserError when something cannot be had.
    """
    if sys.version_info[:2] != (3, 11):
        raise UserError(f"{sys.executable} is not Python 3.11, which the machines have. Run this with Debian 12's.")
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        copy, made = work / "tree", work / "opt" / "ovsnet"
        copy.mkdir()  # a build leaves traces where it builds
        for source in _SOURCES:
            if (TREE / source).is_dir():
                shutil.copytree(TREE / source, copy / source, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(TREE / source, copy)
        _python("-m", "pip", *_PIP, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", name, str(copy))
        (wheel,) = work.glob("ovsnet-*.whl")
        _python("-m", "venv", "--without-pip", "--copies", str(made))
        _install(made, f"{wheel}[bus]")
        _as_if_made_in(made, PREFIX)
        with tarfile.open(SITE / "ovsnet.tar.gz", "w:gz", compresslevel=1) as archive:
            archive.add(made, PREFIX.lstrip("/"), filter=_of_root)


def _install(prefix: Path, requirement: str) -> None:
    pip = ["-m", "pip", "--python", str(prefix / "bin" / "python"), *_PIP]
    constraints = str(TREE / "scripts" / "constraints.txt")
    _python(*pip, "install", "--no-compile", "--constraint", constraints, requirement)


def _as_if_made_in(made: Path, prefix: str) -> None:
    """Let programs and compiled modules of a virtual environment say that they are in ``prefix``."""
    for program in (made / "bin").iterdir():
        if program.is_file() and not program.is_symlink() and (text := program.read_bytes()).startswith(b"#!"):
            program.write_bytes(text.replace(str(made).encode(), prefix.encode()))
    _python("-m", "compileall", "-q", "-j", "0", "-s", str(made), "-p", prefix, str(made / "lib"))
    for name in ("python", "python3", "python3.11"):
        (made / "bin" / name).unlink(missing_ok=True)
        (made / "bin" / name).symlink_to("/usr/bin/python3.11")


def _of_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    return entry


def _python(*words: str) -> None:
    done = subprocess.run(
        [sys.executable, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, cwd=BUILT
    )
    if done.returncode:
        raise UserError(f"python {' '.join(words)} failed: {done.stdout.strip()[-2000:]}")


def main() -> int:
    """Write everything; the exit code."""
    try:
        hosts = hypervisors()
        write_site(hosts)
        write_keys(hosts)
        write_package()
    except UserError as error:
        print(error, file=sys.stderr)
        return EXIT_MISTAKE
    print(f"{SITE}: what {len(hosts)} hypervisors and a controller are given")
    return 0


if __name__ == "__main__":
    sys.exit(main())
