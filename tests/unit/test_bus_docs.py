"""docs/bus.md and the AsyncAPI document show messages that really are such."""

from __future__ import annotations

import re
from pathlib import Path

import jsonschema
import msgspec
import pytest

from ovsnet.transport.asyncapi import EXAMPLES, asyncapi
from ovsnet.transport.messages import ChangeMessage, decode
from ovsnet.transport.operations import operations_of

PAGE = (Path(__file__).parents[2] / "docs" / "bus.md").read_text()


@pytest.mark.parametrize("kind", EXAMPLES)
def test_the_page_shows_the_example_of_each_message(kind: str) -> None:
    section = PAGE.split(f"\n### {kind}\n")[1].split("\n### ")[0]
    shown = re.findall(r"```json\n(.*?)```", section, re.DOTALL)
    message = EXAMPLES[kind]
    assert [msgspec.json.decode(one) for one in shown] == [msgspec.json.decode(msgspec.json.encode(message))]
    read = decode(shown[0].encode(), type(message))
    if isinstance(read, ChangeMessage):
        assert len(operations_of(read.items)) == 2
    else:
        assert read == message


def test_the_examples_fit_the_document() -> None:
    document = asyncapi()
    for name, message in document["components"]["messages"].items():
        for example in message.get("examples", ()):
            schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
            jsonschema.validate(example["payload"], schema)
            with pytest.raises(jsonschema.ValidationError):
                jsonschema.validate(example["payload"] | {"v": "one"}, schema)


def test_all_references_of_the_document_lead_somewhere() -> None:
    document = asyncapi()
    text = msgspec.json.encode(document).decode()
    references = set(re.findall(r'"\$ref":"#/([^"]+)"', text))
    assert len(references) > 15
    for reference in references:
        place = document
        for word in reference.split("/"):
            place = place[word]
