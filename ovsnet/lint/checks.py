"""What to look for in one VPC: rules that never match, never decide or contradict, and groups that nobody uses."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from ovsnet.lint.kinds import Found
from ovsnet.lint.meaning import EXEMPT, Line, Meaning, Scene, addresses_of, families_of
from ovsnet.lint.regions import uncovered

_MOST_NAMED = 4
"""How many covering rules a message names."""


def check_vpc(scene: Scene) -> list[Found]:
    """All findings of a VPC, in no particular order."""
    found: list[Found] = []
    dead: set[Line] = set()
    for line in _declared(scene):
        one = _never_matches(scene, line)
        if one is not None:
            found.append(one)
            dead.add(line)
    found = [_with_warning(scene, one, dead) for one in found]
    removed = dead | _groups_alone(scene, dead, found)
    _with_today(scene, removed, found)
    _contradictions(scene, removed, found)
    found += _unused(scene)
    found += _local_families(scene, removed)
    found += _open_egress(scene)
    return found


def _with_warning(scene: Scene, one: Found, dead: set[Line]) -> Found:
    """A finding about a rule without which its group would allow all egress says so."""
    line = next(line for line in dead if line.path == one.path)
    if line.rule.direction == "ingress" or not _holds_egress(scene, line, set(scene.lines[line.group]) - dead):
        return one
    hint = "without an egress rule the group allows all egress, unless it says 'default_egress: deny'"
    return Found(one.code, one.path, f"{one.reason}; {hint}", one.on_key)


def _declared(scene: Scene) -> Iterator[Line]:
    for group in scene.vpc.security_groups:
        yield from scene.lines[group]


def _never_matches(scene: Scene, line: Line) -> Found | None:
    """Why a line matches nothing, if so."""
    remote = line.rule.remote
    versions = " or ".join(f"IPv{one}" for one in line.families)
    if remote is not None and remote.address_group is not None:
        if not any(scene.ranges(remote.address_group, of) for of in line.families):
            reason = f"address group {remote.address_group} has no {versions} address"
            return Found("empty-address-group", line.path, reason)
    elif remote is not None and remote.group is not None:
        return _no_member(scene, line, remote.group, versions)
    regions = scene.always(line.remote_group)(line)
    if regions and all(uncovered(region, [EXEMPT]) is None for region in regions):
        return Found("not-subject", line.path, "no group is asked about these ICMPv6 types, which always pass")
    return None


def _no_member(scene: Scene, line: Line, group: str, versions: str) -> Found | None:
    if not scene.ports_of.get(group):
        return Found("empty-remote-group", line.path, f"no port is in group {group}")
    members = scene.ports_of[group]
    networks = {port.network for port in members if any(of in line.families for of, _ in addresses_of(port))}
    if not networks:
        return Found("remote-family", line.path, f"no member of group {group} has an {versions} address")
    mine = {port.network for port in scene.ports_of.get(line.group, ())}
    if mine and {*map(scene.domain, mine)}.isdisjoint(map(scene.domain, networks)):
        reason = f"members of group {group} are in {_some(networks)}, ports of {line.group} in {_some(mine)}"
        return Found("remote-elsewhere", line.path, reason)
    return None


def _some(names: Iterable[str]) -> str:
    ordered = sorted(names)
    return ", ".join(ordered[:_MOST_NAMED]) + (
        f" and {len(ordered) - _MOST_NAMED} more" if ordered[_MOST_NAMED:] else ""
    )


def _no_later(other: Line, line: Line) -> bool:
    """Whether ``other`` comes before ``line``, or beside it with the same action; what is logged stays logged."""
    if other.rank != line.rank:
        return other.rank < line.rank
    return other.rule.log or not line.rule.log


def _covering(line: Line, others: Iterable[Line]) -> list[Line]:
    """The lines that might take what ``line`` matches."""
    direction = line.rule.direction
    first, last, lowest, highest = line.span
    found = []
    for one in others:
        start, end, low, high = one.span
        if start > last or first > end or low > highest or lowest > high or one is line:
            continue
        if one.rule.direction == direction and _no_later(one, line):
            found.append(one)
    return found


def _covered(line: Line, others: Sequence[Line], meaning: Meaning) -> bool:
    """Whether nothing is left of ``line`` beside ``others``."""
    rest = [region for other in others for region in meaning(other)]
    return all(uncovered(region, [EXEMPT, *rest]) is None for region in meaning(line))


def _redundant(lines: Iterable[Line], covered: Callable[[Line, set[Line]], bool]) -> list[Line]:
    """The lines that can be removed together: each is covered by what is left. The last in order go first."""
    left = set(lines)
    gone = []
    for line in sorted(left, key=lambda one: (one.rank, one.path), reverse=True):
        if covered(line, left):
            left.discard(line)
            gone.append(line)
    return gone


def _groups_alone(scene: Scene, dead: set[Line], found: list[Found]) -> set[Line]:
    """The lines that others of the same group cover whoever is a member."""
    result: set[Line] = set()
    for group in scene.vpc.security_groups:
        lines = [line for line in scene.lines[group] if line not in dead]

        def covered(line: Line, left: set[Line]) -> bool:
            return _covered(line, _covering(line, left), scene.always(line.remote_group))

        gone = _redundant(lines, covered)
        for line in gone:
            by = _fewest(line, [one for one in lines if one not in gone], scene)
            same = all(one.rule.action == line.rule.action for one in by)
            reason = _covered_by(line, by) if same else _shadowed_by(by)
            found.append(Found("covered-rule" if same else "shadowed-rule", line.path, reason))
            result.add(line)
    return result


def _covered_by(line: Line, by: Sequence[Line]) -> str:
    verb = line.rule.action
    return f"{_named(by)} {verb}{'s' if len(by) == 1 else ''} all that it {verb}s"


def _shadowed_by(by: Sequence[Line]) -> str:
    if len(by) == 1:
        return f"{_named(by)} comes before it and {by[0].rule.action}s all that it matches"
    actions = ", ".join(sorted({one.rule.action for one in by}))
    return f"{_named(by)} come before it and together decide ({actions}) on all that it matches"


def _fewest(line: Line, left: Iterable[Line], scene: Scene) -> list[Line]:
    """Of the lines that cover ``line`` those that are needed: one alone if one does."""
    meaning = scene.always(line.remote_group)
    by = [one for one in _covering(line, left) if _meets(line, one, meaning)]
    for one in sorted(by, key=lambda one: (one.rule.action != line.rule.action, one.path)):
        if _covered(line, [one], meaning):
            return [one]
    for one in list(by):
        fewer = [other for other in by if other is not one]
        if _covered(line, fewer, meaning):
            by = fewer
    return by


def _meets(line: Line, other: Line, meaning: Meaning) -> bool:
    return any(a.meet(b) is not None for a in meaning(line) for b in meaning(other))


def _named(lines: Sequence[Line]) -> str:
    names = [line.name for line in lines[:_MOST_NAMED]]
    if len(lines) > _MOST_NAMED:
        names.append(f"{len(lines) - _MOST_NAMED} more")
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _with_today(scene: Scene, removed: set[Line], found: list[Found]) -> None:
    """Lines that decide nothing on any port that has them, as members and groups of ports are today."""

    def covered(line: Line, left: set[Line]) -> bool:
        if line.group not in scene.vpc.security_groups or _holds_egress(scene, line, left):
            return False
        for groups in scene.policies:
            if line.group in groups:
                others = _covering(line, (one for group in groups for one in scene.lines[group] if one in left))
                networks = {port.network for port in scene.policies[groups]}
                if not all(_covered(line, others, scene.today(network)) for network in networks):
                    return False
        return True

    used = [line for group in scene.ports_of for line in scene.lines[group] if line not in removed]
    for line in _redundant(used, covered):
        removed.add(line)
        reason = f"on all ports of {line.group} rules that come before it, or beside it, decide on all that it matches"
        found.append(Found("decided-before-today", line.path, reason))


def _holds_egress(scene: Scene, line: Line, left: set[Line]) -> bool:
    """Whether ``line`` is the last egress rule of its group, without which the group would allow all egress."""
    declared = scene.vpc.security_groups[line.group]
    if line.rule.direction == "ingress" or declared.default_egress == "deny":
        return False
    others = (one for one in scene.lines[line.group] if one is not line and one in left)
    return all(one.rule.direction == "ingress" for one in others)


def _contradictions(scene: Scene, removed: set[Line], found: list[Found]) -> None:
    for group in scene.vpc.security_groups:
        by_place: dict[tuple[str, int], list[Line]] = {}
        for line in scene.lines[group]:
            if line not in removed:
                by_place.setdefault((line.rule.direction, line.rule.priority), []).append(line)
        for lines in by_place.values():
            for line in lines:
                winners = [one for one in lines if one.rank < line.rank and _overlap(scene, line, one)]
                if winners:
                    actions = " and ".join(sorted({one.rule.action for one in winners}))
                    reason = f"at priority {line.rule.priority} {_named(winners)} match part of what it matches: "
                    reason += f"{actions} wins over {line.rule.action}"
                    found.append(Found("contradicting-rules", line.path, reason))


def _overlap(scene: Scene, line: Line, other: Line) -> bool:
    """Whether packets exist that both match; with the members that there are, unless both have one remote group."""
    groups = {line.remote_group, other.remote_group}
    if len(groups) == 1:
        return _meets(line, other, scene.always(line.remote_group))
    networks = {port.network for port in scene.ports_of.get(line.group, ())}
    return any(_meets(line, other, scene.today(network)) for network in networks)


def _unused(scene: Scene) -> Iterator[Found]:
    base = ("vpcs", scene.name)
    named = {(line.group, line.remote_group) for lines in scene.lines.values() for line in lines}
    for group in scene.vpc.security_groups:
        if not scene.ports_of.get(group) and not any(of == group and by != group for by, of in named):
            reason = f"no port is in group {group}, and no other group's rule refers to it"
            yield Found("unused-group", (*base, "security_groups", group), reason, on_key=True)
    remotes = [line.rule.remote for line in _declared(scene)]
    referred = {remote.address_group for remote in remotes if remote is not None}
    for name in scene.vpc.address_groups:
        if name not in referred:
            reason = f"no rule refers to address group {name}"
            yield Found("unused-address-group", (*base, "address_groups", name), reason, on_key=True)


def _local_families(scene: Scene, removed: set[Line]) -> Iterator[Found]:
    for group in scene.vpc.security_groups:
        ports = scene.ports_of.get(group)
        has = {of for port in ports or () for of in families_of(port)}
        for line in scene.lines[group] if ports else ():
            if line not in removed and len(line.families) == 1 and not has.issuperset(line.families):
                reason = f"no port of group {group} has an IPv{line.families[0]} address"
                yield Found("local-family", line.path, reason)


def _open_egress(scene: Scene) -> Iterator[Found]:
    for group, declared in scene.vpc.security_groups.items():
        allows = any(line.rule.direction == "egress" and line.rule.action == "allow" for line in scene.lines[group])
        if not allows and declared.default_egress == "allow":
            continue
        policies = [groups for groups in scene.policies if group in groups]
        openers = [_opener(scene, group, groups) for groups in policies]
        if openers and all(openers):
            reason = (
                f"every port of group {group} is also in {_some({one for one in openers if one})}, which allows all"
            )
            yield Found("egress-open", ("vpcs", scene.name, "security_groups", group), f"{reason} egress", on_key=True)


def _opener(scene: Scene, group: str, groups: Iterable[str]) -> str | None:
    """A group of ``groups`` beside ``group`` that allows all egress which nothing drops."""
    for other in groups:
        if other != group and not any(line.rule.direction == "egress" for line in scene.lines[other]):
            declared = scene.vpc.security_groups.get(other)
            if declared is None or declared.default_egress == "allow":
                return other
    return None
