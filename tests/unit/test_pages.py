"""The reader of pages whose commands run does what it says, and notices what is not as it is shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.pages import Differs, Reader, rewritten, steps

PAGE = """
# A page

```yaml
# a.yaml
one: 1
two: 2
```

```console
$ cat \\
    a.yaml
# a.yaml
...
two: 2
$ echo took 12.5 s and 3
took ... s and ...
$ false
$ echo $?
1
```

```diff
--- a.yaml
 one: 1
-two: 2
+two: 3
```

```console
$ grep two a.yaml
two: 3
```
"""


def read(page: str, place: Path, aliases: dict[str, str] | None = None) -> None:
    Reader(place, {}, aliases or {}).read(steps(page))


def test_a_page_that_is_right_is_followed(tmp_path: Path) -> None:
    read(PAGE, tmp_path)
    assert (tmp_path / "a.yaml").read_text() == "# a.yaml\none: 1\ntwo: 3\n"


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("\ntwo: 3\n", "\ntwo: 4\n"), ("took ... s", "took ... ms"), ("$ echo $?\n1\n", ""), ("...\ntwo", "...\ntwice")],
)
def test_what_is_wrong_is_noticed(tmp_path: Path, right: str, wrong: str) -> None:
    assert PAGE.count(right) == 1
    with pytest.raises(Differs):
        read(PAGE.replace(right, wrong), tmp_path)


def test_a_change_of_what_is_not_there_is_noticed(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="does not have once"):
        read(PAGE.replace("-two: 2", "-two: 5"), tmp_path)


def test_names_are_others_here_and_the_pages_own_in_what_is_compared(tmp_path: Path) -> None:
    read("```console\n$ echo first > name\n$ cat name\nfirst\n```\n", tmp_path, {"first": "other"})
    assert (tmp_path / "name").read_text() == "other\n"


def test_what_runs_beside_is_ended(tmp_path: Path) -> None:
    wait = "for i in {1..50}; do [[ -s pid ]] && break; sleep 0.1; done"
    read(f"```console\n$ echo $$ > pid; sleep 100 &\n$ {wait}; cat pid\n...\n```\n", tmp_path)
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists()


def test_a_page_is_rewritten_where_it_differs(tmp_path: Path) -> None:
    page = PAGE.replace("\ntwo: 3\n", "\nold\n").replace("took ... s and ...\n", "")
    assert rewritten(page, Reader(tmp_path, {}, {})) == PAGE.replace("took ... s and ...", "took 12.5 s and 3")
