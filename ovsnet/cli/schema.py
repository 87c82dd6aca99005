"""``ovsnet schema``: the JSON Schema of a model file."""

from __future__ import annotations

from typing import Annotated

import typer

from ovsnet.cli.common import print_json


def schema_command(
    state: Annotated[bool, typer.Option("--state", help="Of a VPC's state, as the agent's API takes it.")] = False,
    bus: Annotated[bool, typer.Option("--bus", help="The messages of the bus, as an AsyncAPI document.")] = False,
) -> None:
    """Print the JSON Schema of model files, for editors.

    An editor with a YAML language server completes and checks keys when a model begins with the comment
    "# yaml-language-server: $schema=model.schema.json".

    Example: ovsnet schema > model.schema.json
    """
    from ovsnet.model.schema import json_schema, state_schema
    from ovsnet.transport.asyncapi import asyncapi

    if bus:
        print_json(asyncapi())
    else:
        print_json(state_schema() if state else json_schema())
