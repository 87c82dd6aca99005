"""The order of the tests, the figures that they report, and the switches of the property tests."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.property.compiled import Installer
from tests.property.harness import Cloud

FIGURE = "measured"
"""A test's property: a line with figures. It travels with the test's report, from whichever process ran it."""
LONGEST_FIRST = ("system", "truth", "mutation", "contract", "property")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--half",
        choices=("together", "alone"),
        help="only the tests that may run beside others, or only those that are marked as measuring time",
    )


def pytest_configure(config: pytest.Config) -> None:
    """After Ctrl-C let the other processes take down what they have made, however long a busy machine needs for it."""
    from xdist.workermanage import NodeManager

    NodeManager.EXIT_TIMEOUT = 120


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the other half. What takes long begins early, so that processes that share the tests end together."""
    half = config.getoption("--half")
    if half is not None:
        others = [item for item in items if (item.get_closest_marker("alone") is not None) != (half == "alone")]
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item not in set(others)]
    items.sort(key=_turn)
    for item in items if os.geteuid() else ():
        if item.get_closest_marker("root"):
            item.add_marker(pytest.mark.skip(reason="needs root: run it with sudo"))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, None]:
    """On a build server (CI=true) nothing is skipped: what a test needs has to be there."""
    outcome = yield
    report = outcome.get_result()
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("CI") == "true":
        report.outcome, report.longrepr = "failed", f"skipped, and CI=true forbids that: {report.longrepr}"


def _turn(item: pytest.Item) -> int:
    if item.get_closest_marker("vm"):
        return -1
    folder = item.path.parent.name
    return LONGEST_FIRST.index(folder) if folder in LONGEST_FIRST else len(LONGEST_FIRST)


@pytest.hookimpl(trylast=True)
def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Name at once what has failed in another process: between its letters no file is named."""
    if report.failed and hasattr(report, "node"):
        report.node.config.pluginmanager.getplugin("terminalreporter").write_line(f"\n{report.nodeid} failed")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [report for kind in terminalreporter.stats.values() for report in kind]
    ended = [report for report in reports if getattr(report, "when", None) == "call"]
    figures = [
        f"{report.nodeid.rpartition('::')[2]}: {line}"
        for report in ended
        for name, line in report.user_properties
        if name == FIGURE
    ]
    if figures:
        terminalreporter.section("measured")
        for line in figures:
            terminalreporter.write_line(line)


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
