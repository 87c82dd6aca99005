"""The exported schema agrees with the loader on the examples, and the generated pages are fresh."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest
import yaml

from ovsnet.model.docs import PAGES
from ovsnet.model.fields import doc_of
from ovsnet.model.schema import TYPES, json_schema, state_schema
from ovsnet.model.types import VpcState

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted(ROOT.glob("examples/*/*.yaml"))
WRONG = {
    "version": {"hosts": {}},
    "key": {"version": 1, "host": {}},
    "name": {"version": 1, "hosts": {"HV1": {"vtep": "10.0.0.1"}}},
    "mtu": {"version": 1, "underlay": {"mtu": 100}},
    "vni": {"version": 1, "vpcs": {"v": {"networks": {"n": {"vni": 0}}}}},
    "cidr": {"version": 1, "vpcs": {"v": {"networks": {"n": {"subnets": [{"cidr": "10.0.0.0"}]}}}}},
    "mac": {"version": 1, "vpcs": {"v": {"ports": {"p": {"network": "n", "mac": "02"}}}}},
    "ips": {"version": 1, "vpcs": {"v": {"ports": {"p": {"network": "n", "ips": ["ten"]}}}}},
    "needed": {"version": 1, "vpcs": {"v": {"ports": {"p": {}}}}},
}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_fit_the_schema(path: Path) -> None:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(yaml.safe_load(path.read_text()))


@pytest.mark.parametrize("name", WRONG)
def test_the_schema_refuses(name: str) -> None:
    assert not jsonschema.Draft202012Validator(json_schema()).is_valid(WRONG[name])


def test_every_key_is_documented_with_an_example_that_fits() -> None:
    for schema, types in ((json_schema(), TYPES), (state_schema(), (VpcState,))):
        for cls in types:
            for key, member in schema["$defs"][cls.__name__]["properties"].items():
                assert doc_of(cls, key), f"{cls.__name__}.{key}"
                validator = jsonschema.Draft202012Validator({"$defs": schema["$defs"], **member})
                for example in member["examples"]:
                    assert validator.is_valid(example), f"{cls.__name__}.{key}: {example}"


@pytest.mark.parametrize("name", PAGES)
def test_generated_pages_are_fresh(name: str) -> None:
    assert (ROOT / "docs" / name).read_text() == PAGES[name](), "run: make docs"
