"""The compiler's numbers on disk: kept, damaged, missing, and a disk that takes nothing."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from ovsnet.agent.numbering import NumbersFile


def test_kept_over_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "numbers.json"
    one = NumbersFile(path)
    assert one.save()
    assert not path.exists(), "nothing was given yet"
    assert [one.numbers.policy("red", [group]) for group in "ab"] == [1, 2]
    one.numbers.release_policy("red", ["b"])
    one.numbers.rules("red", "a", ["x", "y"])
    one.numbers.bank("red", ["a"], ["web"], ["office"])
    assert one.save()
    written = path.stat().st_mtime_ns
    assert one.save()
    assert path.stat().st_mtime_ns == written, "what has not changed is not written again"
    again = NumbersFile(path, expected=True)
    assert again.damage == []
    assert again.numbers.snapshot() == one.numbers.snapshot()
    assert again.numbers.policy("red", ["c"]) == 3, "a released number is not given again at once"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"policies": [{"vpc": "red", "groups": [], "number": 0}]}', "\xff"])
def test_a_damaged_file_is_set_aside(tmp_path: Path, text: str) -> None:
    path = tmp_path / "numbers.json"
    path.write_text(text, "latin-1")
    one = NumbersFile(path, expected=True)
    assert len(one.damage) == 1
    assert "numbers.json is damaged (" in one.damage[0]
    assert "set aside as numbers.json.damaged-" in one.damage[0]
    assert [file.read_text("latin-1") for file in tmp_path.iterdir()] == [text]
    assert one.numbers.policy("red", ["a"]) == 1
    assert one.save()
    assert NumbersFile(path).damage == []


def test_a_missing_file_is_said_where_one_is_expected(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        NumbersFile(tmp_path / "numbers.json")
        assert not caplog.messages
        NumbersFile(tmp_path / "numbers.json", expected=True)
    assert [message.partition(": ")[2] for message in caplog.messages] == ["the numbers of security groups begin anew"]


def test_a_disk_that_takes_nothing_is_tried_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    directory = tmp_path / "state"
    one = NumbersFile(directory / "numbers.json")
    one.numbers.policy("red", ["a"])
    with caplog.at_level(logging.ERROR):
        assert not one.save()
        assert not one.save()
    assert len(caplog.messages) == 1, "once is enough"
    directory.mkdir()
    assert one.save()
    assert NumbersFile(directory / "numbers.json").numbers.policy("red", ["a"]) == 1
