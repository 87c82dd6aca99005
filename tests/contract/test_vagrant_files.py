"""The lab of virtual machines without its machines: what is written for them fits together, and tools find no fault.

``make vagrant-lab`` is the test with machines.
"""

from __future__ import annotations

import itertools
import os
import re
import subprocess
from ipaddress import ip_address
from pathlib import Path

import pytest

from ovsnet.errors import UserError
from tests.tree import ROOT
from vagrant import stage

HERE = ROOT / "vagrant"
SCRIPTS = [HERE / name for name in ("lab", "provision.sh", "box/build", "box/customize", "guest/ovsnet-workload")]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What machines are given, but for the package."""
    for name, folder in (("BUILT", "."), ("SITE", "site"), ("KEYS", "keys")):
        monkeypatch.setattr(stage, name, tmp_path / folder)
    stage.write_site(["hv1", "hv2"])
    stage.write_keys(["hv1", "hv2"])
    return tmp_path / "site"


def shellcheck(script: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["shellcheck", str(script)], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: str(script.relative_to(HERE)))
def test_shellcheck_finds_nothing(script: Path, tmp_path: Path) -> None:
    assert os.access(script, os.X_OK)
    assert shellcheck(script).stdout == ""
    wrong = tmp_path / "wrong"
    wrong.write_text(f"{script.read_text()}\nrm $nothing/*\n")
    assert "SC2086" in shellcheck(wrong).stdout, "the control: it looks"


def test_every_script_is_checked() -> None:
    shebang = {path for path in HERE.rglob("*") if path.is_file() and path.read_bytes().startswith(b"#!")}
    assert shebang == set(SCRIPTS)


def vagrant(words: list[str], home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    given = {
        "VAGRANT_HOME": str(home / "home"),
        "VAGRANT_DOTFILE_PATH": str(home / "machines"),
        "VAGRANT_CWD": str(HERE),
    }
    return subprocess.run(
        ["vagrant", *words], env=os.environ | given | {"VAGRANT_DEFAULT_PROVIDER": "libvirt"} | environment,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("driver", ["kvm", "qemu"])
def test_vagrant_finds_nothing_wrong(driver: str, tmp_path: Path) -> None:
    done = vagrant(["validate"], tmp_path, OVSNET_DRIVER=driver)
    assert done.returncode == 0, done.stdout


def test_vagrant_finds_a_number_that_is_none(tmp_path: Path) -> None:
    done = vagrant(["validate"], tmp_path, OVSNET_HYPERVISORS="many")
    assert done.returncode != 0
    assert "many" in done.stdout


def test_machines_are_where_their_certificates_say() -> None:
    text = (HERE / "Vagrantfile").read_text()
    assert f'PRIVATE = "{stage.UNDERLAY}"' in text
    assert f'"controller" => "#{{PRIVATE}}.{stage.address(stage.CONTROLLER).rpartition(".")[2]}"' in text
    assert 'addresses["hv#{number}"] = "#{PRIVATE}.#{10 + number}"' in text
    assert [stage.address(host) for host in ("hv1", "hv3")] == [f"{stage.UNDERLAY}.11", f"{stage.UNDERLAY}.13"]


@pytest.mark.parametrize("number", ["1", "90", "three"])
def test_a_number_of_hypervisors_that_cannot_be(number: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVSNET_HYPERVISORS", number)
    with pytest.raises(UserError, match=f"OVSNET_HYPERVISORS={number}"):
        stage.hypervisors()


@pytest.mark.parametrize("number", ["2", "89"])
def test_the_cloud_is_a_model(number: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OVSNET_HYPERVISORS", number)
    monkeypatch.setattr(stage, "SITE", tmp_path)
    hosts = stage.hypervisors()
    stage.write_site(hosts)
    made = stage.workloads(tmp_path / "model.json", tmp_path / "site-geneve.json")
    assert len(made) == 2 * len(hosts) + 1
    assert {one.host for one in made} == set(hosts)
    assert len({ip_address(stage.address(host)) for host in hosts}) == len(hosts)


def test_each_machine_gets_what_its_steps_read(site: Path) -> None:
    """Files that the provisioning script names are there, and no machine has another's keys."""
    script = (site / "provision.sh").read_text()
    named = set(re.findall(r"\$site/([\w.@-]+)", script)) - {"site-", "workloads"}
    there = {path.name for path in site.iterdir()} | {"ovsnet.tar.gz"}
    assert named <= there
    assert {f"site-{name}.json" for name in stage.ENCAPSULATIONS} <= there
    keys = site.parent / "keys"
    for host, other in itertools.permutations(["hv1", "hv2"]):
        assert {path.name for path in (keys / host / "tls").iterdir()} == {"cert.pem", "key.pem", "callers-ca.pem"}
        assert (keys / host / "tls/key.pem").read_bytes() != (keys / other / "tls/key.pem").read_bytes()
    assert {"cert.pem", "key.pem", "callers-ca.pem", "hosts-ca.pem"} <= {
        path.name for path in (keys / "controller/tls").iterdir()
    }
    config = (keys / "controller/nats/nats.conf").read_text()
    assert f"{stage.address(stage.CONTROLLER)}:4222" in config
    assert "/etc/nats/ovsnet/cert.pem" in config
    assert not list(keys.rglob("authorities"))


def test_a_workload_unit_is_sound_and_has_its_variables(site: Path, tmp_path: Path) -> None:
    unit = site / "ovsnet-workload@.service"
    program = (site / "ovsnet-workload").read_text()
    needed = set(re.findall(r"\$\{(\w+):?\?\}", program))
    files = sorted((site / "workloads").rglob("*.env"))
    assert [path.name for path in files if path.parent.name == "hv2"] == ["blue-web2.env", "red-web2.env"]
    for path in files:
        assert {line.partition("=")[0] for line in path.read_text().splitlines()} == needed
    concrete = tmp_path / "ovsnet-workload@red-web1.service"
    concrete.write_text(unit.read_text().replace("/usr/local/sbin/ovsnet-workload", "/bin/true"))
    words = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(concrete)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.stdout + done.stderr == ""


def test_every_step_is_told_of_and_every_told_step_is_there() -> None:
    script = (HERE / "provision.sh").read_text()
    head = script.partition("set -euo pipefail")[0]
    told = re.findall(r"^#   ([a-z]+)  ", head, re.MULTILINE)
    assert told == re.findall(r"^step_([a-z]+)\(\)", script, re.MULTILINE)
    run = [name for line in re.findall(r"set -- (.*)", script) for name in line.split()]
    assert set(run) == set(told)


def test_an_unknown_step_or_transport_is_said() -> None:
    settings = {"MACHINE": "hv1", "ADDRESS": "192.0.2.1", "CONTROLLER": "192.0.2.2", "PATH": os.environ["PATH"]}
    for words, extra, said in (
        (["nothing"], {}, "'nothing' is no step"),
        ([], {"TRANSPORT": "post"}, "TRANSPORT=post"),
    ):
        done = subprocess.run(
            [str(HERE / "provision.sh"), *words], env=settings | extra, capture_output=True, text=True, check=False
        )
        assert done.returncode == 2
        assert said in done.stderr
