"""What pyproject.toml declares is what is imported: nothing is missing, and nothing is there for nobody."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions

import pytest

from tests.tree import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
OWN = {"vagrant", "ovsnet", "tests", "benchmarks", "examples", "scripts"}
BY_NAME = {
    "postgres": {"psycopg"},
    "dev": {"build", "mkdocs", "mypy", "pytest-timeout", "pyroute2", "ruff", "setuptools", "types-pyyaml"},
}
"""What is there without an import: drivers that a URL names, tools, plugins, stubs, and what the lab needs."""


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=~! ;]", one)[0].lower() for one in requirements}


def imported(*folders: str) -> set[str]:
    """The distributions whose modules the Python files below some folders import when they run."""
    modules = {
        name.split(".")[0]
        for folder in folders
        for path in (ROOT / folder).rglob("*.py")
        for name in _imports(path.read_text())
    }
    where = packages_distributions()
    beside = {path.stem for folder in folders for path in (ROOT / folder).rglob("*.py")} - set(where)
    outside = modules - sys.stdlib_module_names - OWN - beside
    return {where.get(module, [module])[0].lower().replace("_", "-") for module in outside}


def _imports(source: str) -> Iterator[str]:
    tree = ast.parse(source)
    typing_only = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def test_the_package_imports_what_it_declares() -> None:
    declared = names(PROJECT["dependencies"]) | names(EXTRAS["bus"]) | names(EXTRAS["lab"])
    assert imported("ovsnet") == declared


def test_tests_and_benchmarks_import_what_is_declared_for_them() -> None:
    used = imported("tests", "benchmarks", "scripts", "examples")
    extra = used - names(PROJECT["dependencies"]) - {"pyroute2"}  # the lab's, which is installed with the tests
    assert extra == names(EXTRAS["dev"]) - BY_NAME["dev"] - BY_NAME["postgres"] | extra & BY_NAME["postgres"]


def test_without_extras_all_but_the_lab_and_the_bus_can_be_imported() -> None:
    code = f"""
import importlib, pkgutil, sys
for name in {[module for module, found in packages_distributions().items() if found[0].lower() in _extra_only()]}:
    sys.modules[name] = None
import ovsnet
for module in pkgutil.walk_packages(ovsnet.__path__, "ovsnet."):
    try:
        module.name.endswith("__main__") or importlib.import_module(module.name)
    except ModuleNotFoundError as missing:
        print(module.name, missing.name)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    lacking = dict(line.split() for line in done.stdout.splitlines())
    outside = {module for module in lacking if not module.startswith("ovsnet.lab.")}
    assert outside == {"ovsnet.agent.subscriber", "ovsnet.transport.bus", "ovsnet.transport.publisher"}
    assert "ovsnet.lab.netns" in lacking, "the control: extras are not to be had"


def _extra_only() -> set[str]:
    return (names(EXTRAS["bus"]) | names(EXTRAS["lab"]) | names(EXTRAS["postgres"])) - names(PROJECT["dependencies"])


LAB = ("ovsnet", "lab")
CONTROLLER = ("ovsnet", "controller", "--run-dir", "{tmp}", "--store")


@pytest.mark.parametrize(
    ("module", "words", "extra"),
    [
        ("pyroute2", [*LAB, "up", "examples/models/demo.yaml"], "lab"),
        ("pyroute2", [*LAB, "down", "--name", "x"], "lab"),
        ("pyroute2", [*LAB, "test", "--name", "x"], "lab"),
        ("pyroute2", ["ovsnet", "status", "--lab", "x"], "lab"),
        ("psycopg", [*CONTROLLER, "postgresql+psycopg://nowhere/x"], "postgres"),
        ("nats", [*CONTROLLER, "sqlite:///{tmp}/c.db", "--nats", "nats://127.0.0.1:9"], "bus"),
    ],
    ids=lambda one: "-".join(one[1:4]) if isinstance(one, list) else one,
)
def test_what_lacks_an_extra_says_which(
    module: str, words: list[str], extra: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    argv = [word.replace("{tmp}", str(tmp_path_factory.mktemp("run"))) for word in words]
    code = f"import sys; sys.modules[{module!r}] = None; sys.argv = {argv}; from ovsnet.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 2
    assert f"is not installed. Install it with: pip install 'ovsnet[{extra}]'\n" in done.stderr
    assert "Traceback" not in done.stderr
