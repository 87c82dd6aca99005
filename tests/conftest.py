"""The switches of the property tests: started once, ended whatever happens."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.property.compiled import Installer
from tests.property.harness import Cloud


@pytest.fixture(scope="session")
def cloud() -> Iterator[Cloud]:
    run_dir = Path(tempfile.mkdtemp(prefix="ovsnet-ref-", dir="/tmp"))
    switches = Cloud(run_dir)
    try:
        yield switches.start()
    finally:
        switches.stop()
        shutil.rmtree(run_dir)


@pytest.fixture(scope="session")
def install(cloud: Cloud) -> Iterator[Installer]:
    installer = Installer()
    yield installer
    installer.close()
