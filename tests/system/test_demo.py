"""The demo: its story comes true and leaves nothing, and it does not claim what is not so."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from ovsnet.lab.demo import Story
from ovsnet.lab.lab import Lab
from tests.system.test_lab_agents import example
from tests.system.test_lab_lifecycle import left_of, wait_for_namespaces

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]
ROOT = Path(__file__).parents[2]


def start(name: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "ovsnet.lab.demo", name],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.alone
def test_the_story_comes_true(lab_name: str) -> None:
    with start(lab_name) as process:
        out, err = process.communicate(timeout=100)
    assert process.returncode == 0, out + err
    assert "180 of 180 as declared, 32 allowed, 148 forbidden" in out
    assert "unknown frames on the wire: 0" in out
    assert "delivered to red/web3 by ingress_verdict on hv3" in out
    assert " 0 lost, 0 doubled" in out
    assert len(out.splitlines()) <= 40, "one screen"
    assert left_of(lab_name) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_nothing(lab_name: str, number: signal.Signals) -> None:
    with start(lab_name) as process:
        wait_for_namespaces(lab_name, 14)  # underlay, three hosts, ten workloads: agents are starting
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert left_of(lab_name) == []


def test_a_broken_cloud_is_not_called_as_declared(lab_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab.up(example("demo"), lab_name)
    monkeypatch.setattr("ovsnet.lab.lab.PATIENCE", 0.3)  # what it waits for never comes
    lab.kill_agent("hv3")
    lab.ovs("hv3").ofctl("del-flows", "br-int")
    told = io.StringIO()
    story = Story(lab_name, Console(file=told, width=200))
    story._matrix(lab)
    assert not story.ok
    assert "180 of 180" not in told.getvalue()
    assert "✗" in told.getvalue()
