"""The house's plan, held by a look at every import: dependencies go one way, and each library has one room."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "ovsnet"

LAYERS = (
    ("errors", "_version", "log", "gateway"),
    ("tls",),
    ("model",),
    ("pipeline", "facts", "lint", "responders"),
    ("numbers",),
    ("features",),
    ("desired",),
    ("filters", "members"),
    ("held",),
    ("leases", "ways", "endpoints"),
    ("rows",),
    ("compiler",),
    ("plan", "explain"),
    ("library",),
    ("trace",),
    ("reasons",),
    ("transport",),
    ("openflow", "ovsdb", "pki"),
    ("switch",),
    ("http",),
    ("agent", "controller"),
    ("lab",),
    ("cli",),
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
ROOMS = {
    "os_ken": {"openflow"},
    "ovs": {"ovsdb"},
    "ovsdbapp": {"ovsdb"},
    "litestar": {"http", "agent", "controller"},
    "uvicorn": {"http"},
    "prometheus_client": {"http"},
    "pyroute2": {"lab"},
    "scapy": {"lab"},
    "typer": {"cli"},
    "rich": {"cli", "lab"},
    "yaml": {"model"},
    "numpy": {"openflow"},
    "cryptography": {"pki"},
    "nats": {"transport"},
    "aiohttp": {"transport"},
    "sqlalchemy": {"controller"},
}
HEAVY = {"os_ken", "litestar", "uvicorn", "ovs", "ovsdbapp", "nats", "sqlalchemy", "grpc", "typer", "cryptography"}
"""What compiling a model needs nothing of."""
FILES = sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_one_way(path: Path) -> None:
    here = room(path)
    if here == "__init__":
        return
    assert here in LEVEL, f"{here} has no place in the layers"
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "ovsnet" and len(parts) > 1 and parts[1] in LEVEL:
            assert LEVEL[parts[1]] <= LEVEL[here], f"{here} imports {name}"
        if parts[0] in ROOMS:
            assert here in ROOMS[parts[0]], f"{here} imports {name}"


def test_files_and_functions_keep_their_size() -> None:
    for path in FILES:
        text = path.read_text()
        assert len(text.splitlines()) <= 500, f"{path} is too long"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or 0) - node.lineno
                assert length <= 50, f"{path}: {node.name} is {length} lines long"


def test_importing_the_library_is_light() -> None:
    code = (
        "import sys, time; start = time.process_time(); import ovsnet; took = time.process_time() - start\n"
        f"heavy = {HEAVY | {'numpy'}}\n"
        "print(took); print(sorted(heavy & {name.split('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    took, loaded = done.stdout.splitlines()
    assert float(took) <= 0.3
    assert loaded == "[]"


def test_loading_and_compiling_load_no_server() -> None:
    code = (
        "import sys, ovsnet; ovsnet.compile(ovsnet.load(['examples/models/two-hosts.yaml']), host='hv1')\n"
        f"heavy = {HEAVY}\n"
        "print(sorted(heavy & {name.split('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_public_surface_is_documented() -> None:
    import ovsnet

    for name in ovsnet.__all__:
        assert hasattr(ovsnet, name)
        if name != "__version__":
            assert getattr(ovsnet, name).__doc__, f"{name} has no docstring"
