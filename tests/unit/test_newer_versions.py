"""What a later version of the other side says is read as far as it is understood."""

from __future__ import annotations

import msgspec
import pytest

from ovsnet.model import VpcState
from ovsnet.model.structure import convert_known
from tests.agent_kit import state


def test_a_state_of_a_later_version_is_read_without_what_is_not_known() -> None:
    held = state()
    told = msgspec.json.decode(msgspec.json.encode(held))
    told["later"] = {"a": 1}
    told["ports"]["p1"]["later"] = [1]
    told["networks"]["n"]["subnets"][0]["later"] = "x"
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(told, VpcState)
    assert convert_known(told, VpcState) == held


def test_what_is_wrong_is_still_wrong() -> None:
    told = msgspec.to_builtins(state())
    told["ports"]["p1"]["network"] = 7
    with pytest.raises(msgspec.ValidationError, match="network"):
        convert_known(told, VpcState)
