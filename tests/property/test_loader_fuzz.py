"""Whatever stands in a file, the loader answers with a model or with problems, never with another exception."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ovsnet.model import Lock, Model, ModelError, assign, check_state, check_states, decode_state, load, vpc_states
from ovsnet.model.lock import lock_text, read_lock
from ovsnet.model.problems import PROBLEMS
from tests.unit.test_model_groups import SHOP

EXAMPLES = sorted(Path(__file__).parents[2].glob("examples/models/*.yaml"))
TEXTS = [*(path.read_bytes() for path in EXAMPLES if path.stem != "twenty-hosts"), SHOP.encode()]
PLAIN: list[Any] = [
    *(msgspec.to_builtins(load(path)) | {"version": 1} for path in EXAMPLES if path.stem != "twenty-hosts"),
    yaml.safe_load(SHOP),
]
FUZZ = settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
PIECES = [
    *(
        piece.encode()
        for piece in ("&a ", "*a", "<<: ", "!t ", "? ", "- ", "[", "]", "{", "}", ": ", "\n", "\t", "'", '"')
    ),
    *(piece.encode() for piece in ("|", "%", "---\n", "\ufeff", "\u2028", "\x85", "\x00", "null", "~")),
    b"\xff",
]
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**80), 2**80),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(
        ["", "x-a", "hv1", "10.0.0.1", "::", "::/0", "0.0.0.0/0", "10.0.0.0/8", "ff:ff:ff:ff:ff:ff", "a" * 70]
    ),
    st.just([]),
    st.just({}),
    st.lists(st.sampled_from(["10.0.0.1", 5, None, {}]), max_size=3),
    st.dictionaries(st.text(max_size=5), st.none(), max_size=2),
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value below the top."""
    found = [path] if path else []
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    for key, below in entries:
        found += places(below, (*path, key))
    return found


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    """A valid model with a few values replaced, removed, renamed or copied elsewhere."""
    whole = json.loads(msgspec.json.encode(draw(st.sampled_from(PLAIN))))
    for _ in range(draw(st.integers(1, 4))):
        paths = places(whole)
        if not paths:
            break
        path = draw(st.sampled_from(paths))
        holder = whole
        for step in path[:-1]:
            holder = holder[step]
        action = draw(st.sampled_from(["replace", "remove", "copy", "rename"]))
        if action == "remove":
            del holder[path[-1]]
        elif action == "rename" and isinstance(holder, dict):
            holder[draw(st.text(max_size=8))] = holder.pop(path[-1])
        elif action == "copy":
            source = whole
            for step in draw(st.sampled_from(paths)):
                source = source[step]
            holder[path[-1]] = json.loads(json.dumps(source))
        else:
            holder[path[-1]] = draw(VALUES)
    return whole


def answer(file: Path) -> Model | None:
    """The model, or ``None`` after problems that are well formed."""
    try:
        return load(file)
    except ModelError as error:
        assert error.problems
        for problem in error.problems:
            assert problem.code in PROBLEMS
            assert problem.line >= 1 and problem.column >= 1 and problem.file == str(file), problem
            assert str(problem).isprintable()
        return None


@FUZZ
@given(whole=mutated())
def test_mutated_models_in_yaml_and_json(whole: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    directory = tmp_path_factory.mktemp("f", numbered=True)
    text = json.dumps(whole, indent=1)
    results = []
    for name in ("m.json", "m.yaml"):
        (directory / name).write_text(text)
        results.append(answer(directory / name))
    if results[0] is not None:
        try:
            done, lock = assign(results[0], Lock())
        except ModelError:
            return
        states = vpc_states(done)
        assert check_states(states) == []
        assert [problem for state in states.values() for problem in check_state(state)] == []
        assert assign(results[0], lock) == (done, lock)
        (directory / "l").write_text(lock_text(lock))
        assert read_lock(directory / "l") == lock


@FUZZ
@given(
    source=st.sampled_from([*TEXTS, *(msgspec.json.encode(one) for one in PLAIN)]),
    edits=st.lists(
        st.tuples(
            st.floats(0, 1, exclude_max=True),
            st.integers(0, 8),
            st.one_of(st.sampled_from(PIECES), st.binary(max_size=4)),
        ),
        min_size=1,
        max_size=5,
    ),
)
def test_mutated_bytes(
    source: bytes, edits: list[tuple[float, int, bytes]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    for at, cut, new in edits:
        start = int(at * len(source))
        source = source[:start] + new + source[start + cut :]
    directory = tmp_path_factory.mktemp("b", numbered=True)
    for name in ("m.json", "m.yaml"):
        (directory / name).write_bytes(source)
        answer(directory / name)


@FUZZ
@given(whole=mutated(), name=st.sampled_from(["red", "shop", "lab"]))
def test_mutated_states(whole: Any, name: str) -> None:
    vpcs = whole.get("vpcs") if isinstance(whole, dict) else None
    vpc = vpcs.get(name) if isinstance(vpcs, dict) else None
    hosts = whole.get("hosts") if isinstance(whole, dict) else None
    body = {"name": name, "revision": 1} | (vpc if isinstance(vpc, dict) else {"ports": vpc})
    body.pop("tenant", None)
    body["hosts"] = (
        {key: one.get("vtep") for key, one in hosts.items() if isinstance(one, dict)} if isinstance(hosts, dict) else 1
    )
    try:
        state = decode_state(json.dumps(body).encode())
    except ModelError as error:
        assert all(problem.line >= 1 for problem in error.problems)
        return
    for problem in check_state(state, "hv1"):
        assert problem.code in PROBLEMS
