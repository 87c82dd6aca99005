"""The running machines, as those who check them see them: a shell in each, their workloads, and vagrant itself."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ovsnet.lab.topology import WorkloadSpec
from vagrant.stage import BUILT, CONTROLLER, SITE, TREE, address, hypervisors, workloads

SOCKET = "/run/ovsnet-controller/controller.sock"
"""Where the controller's API is in its machine."""
_SSH = ("-o", "ControlMaster=auto", "-o", "ControlPersist=60", "-o", "ServerAliveInterval=10", "-o", "LogLevel=ERROR")


class CheckFailed(Exception):
    """Something is not as it should be; the message says where, what, and what was seen."""


class Machines:
    """All machines of the lab; ``transport`` and ``encapsulation`` are what they are to be provisioned with."""

    def __init__(self, sockets: Path) -> None:
        self.hosts = hypervisors()
        self.workloads = workloads(SITE / "model.json", SITE / "site-vxlan.json")
        self.transport = os.environ.get("OVSNET_TRANSPORT", "direct")
        self.encapsulation = os.environ.get("OVSNET_ENCAPSULATION", "vxlan")
        self._config = BUILT / "ssh-config"
        self._control = ("-o", f"ControlPath={sockets}/%n")
        self.find()

    def find(self) -> None:
        """Ask vagrant where the machines are; again after one was made anew."""
        self._config.write_text(self.vagrant("ssh-config"))

    def vagrant(self, *words: str) -> str:
        """Run vagrant; its output. Raises CheckFailed."""
        given = {"OVSNET_TRANSPORT": self.transport, "OVSNET_ENCAPSULATION": self.encapsulation}
        environment = os.environ | {"VAGRANT_CWD": str(TREE / "vagrant")} | given
        done = subprocess.run(["vagrant", *words], env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise CheckFailed(f"vagrant {' '.join(words)} failed:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
        return done.stdout

    def run(self, machine: str, script: str, *, timeout: float = 300.0) -> str:
        """Run a bash script as root in a machine; its output. Raises CheckFailed when its exit code is not 0."""
        code, output = self.answer(machine, script, timeout=timeout)
        if code:
            raise CheckFailed(f"{machine}: exit code {code} of\n{script}\n{output}")
        return output

    def answer(self, machine: str, script: str, *, timeout: float = 300.0) -> tuple[int, str]:
        """As ``run``, but an exit code is part of the answer. Raises CheckFailed when it takes longer than that."""
        command = ["ssh", "-F", str(self._config), *_SSH, *self._control, machine, "sudo", "bash", "-s"]
        try:
            done = subprocess.run(
                command, input=script, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                check=False, timeout=timeout,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise CheckFailed(f"{machine}: not done within {timeout:.0f} s:\n{script}") from None
        return done.returncode, done.stdout

    def everywhere(self, scripts: dict[str, str]) -> dict[str, str]:
        """Run a script in each machine at the same time; the outputs."""
        with ThreadPoolExecutor(len(scripts)) as pool:
            return dict(zip(scripts, pool.map(self.run, scripts, scripts.values()), strict=True))

    def provision(self, machines: Iterable[str], step: str) -> None:
        """Repeat a step of the provisioning script in machines, with the encapsulation that is now to be."""
        self.everywhere({machine: f"{self._settings(machine)} /srv/ovsnet/provision.sh {step}" for machine in machines})

    def _settings(self, machine: str) -> str:
        values = {
            "MACHINE": machine,
            "ADDRESS": address(machine),
            "CONTROLLER": address(CONTROLLER),
            "TRANSPORT": self.transport,
            "ENCAPSULATION": self.encapsulation,
        }
        return " ".join(f"{name}={shlex.quote(value)}" for name, value in values.items())

    def workload(self, name: str) -> WorkloadSpec:
        """The workload of a port, ``VPC/PORT``."""
        (found,) = (one for one in self.workloads if one.name == name)
        return found

    def settle(self, timeout: float = 240.0) -> float:
        """Wait until every port is enforced on its host and the controller says so too; seconds that it took.

        Raises CheckFailed with what is missing.
        """
        began = time.monotonic()
        while missing := self._missing():
            if time.monotonic() - began > timeout:
                raise CheckFailed(f"not in force after {timeout:.0f} s: " + "; ".join(missing))
            time.sleep(2)
        return time.monotonic() - began

    def _missing(self) -> list[str]:
        ask = dict.fromkeys(self.hosts, "ovsnet status --json --socket /run/ovsnet/agent.sock")
        ask[CONTROLLER] = f"ovsnet status --json --controller {SOCKET}"
        with ThreadPoolExecutor(len(ask)) as pool:
            answers = dict(zip(ask, pool.map(self.answer, ask, ask.values()), strict=True))
        missing = [f"{machine}: {output.strip()[-500:]}" for machine, (code, output) in answers.items() if code]
        if missing:
            return missing
        for host in self.hosts:
            (status,) = json.loads(answers[host][1]).values()
            wanted = {one.name for one in self.workloads if one.host == host}
            there = {one["port"] for one in status["ports"] if one["enforced"] and one["up"]}
            missing += [f"{host}: {name} {_reason(status, name)}" for name in sorted(wanted - there)]
        return missing


def _reason(status: dict[str, Any], name: str) -> str:
    return next((str(one["reason"]) for one in status["ports"] if one["port"] == name), "was not told of")


def namespace(workload: WorkloadSpec) -> str:
    """The namespace that the workload is in its machine."""
    return f"{workload.vpc}-{workload.port}"


def addresses(workload: WorkloadSpec) -> tuple[str, str]:
    """The workload's IPv4 and IPv6 address."""
    four, six = (address.partition("/")[0] for address in workload.addresses)
    return four, six


def control_sockets() -> tempfile.TemporaryDirectory[str]:
    """A directory for connections that are kept open; its path is short, as sockets' paths have to be."""
    return tempfile.TemporaryDirectory(prefix="ovsnet-")
