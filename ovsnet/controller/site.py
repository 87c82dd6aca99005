"""What a request makes of the site: its hosts and its underlay."""

from __future__ import annotations

from collections.abc import Sequence

from ovsnet.controller.requests import PutHost, PutUnderlay, Request
from ovsnet.controller.truth import OwnedHost, Plan, Truth
from ovsnet.errors import ModelError
from ovsnet.model.checks import Drafts, check_hosts, check_underlay
from ovsnet.model.report import make_problem
from ovsnet.transport.view import ConflictError


def plan_site(truth: Truth, request: Request, edits: Sequence[PutHost | PutUnderlay], plan: Plan) -> dict[str, str]:
    """Note in ``plan`` what becomes of hosts and underlay; gives the hosts whose VTEP changes, with the new one.

    Raises ModelError, ConflictError (``foreign-owner``).
    """
    moved: dict[str, str] = {}
    asked = {edit.name: edit.body for edit in edits if isinstance(edit, PutHost)}
    if asked:
        hosts = {name: one.host for name, one in truth.hosts.items() if name not in asked}
        hosts |= {name: body for name, body in asked.items() if body is not None}
        drafts = Drafts([])
        checked = check_hosts(drafts, hosts)
        wrong = [draft for draft in drafts.found if draft.path[1] in asked]  # the others were taken over already
        if wrong:
            raise ModelError([make_problem(draft, None) for draft in wrong])
        for name in asked:
            held, new = truth.hosts.get(name), checked.get(name)
            if held is None:
                if new is not None:
                    plan.hosts[name] = OwnedHost(new, request.owner)
                continue
            if held.host == new and not (request.adopt and held.owner != request.owner):
                continue
            _permit(f"host {name}", held.owner, request)
            plan.hosts[name] = None if new is None else OwnedHost(new, request.owner)
            if new is not None and new.vtep != held.host.vtep:
                moved[name] = new.vtep
    for edit in edits:
        if isinstance(edit, PutUnderlay):
            _plan_underlay(truth, request, edit, plan)
    return moved


def _plan_underlay(truth: Truth, request: Request, edit: PutUnderlay, plan: Plan) -> None:
    drafts = Drafts([])
    check_underlay(drafts, edit.body)
    if drafts.found:
        raise ModelError([make_problem(draft, None) for draft in drafts.found])
    if edit.body == truth.underlay:
        return
    if truth.underlay_owner is not None:
        _permit("the underlay", truth.underlay_owner, request)
    plan.underlay = (edit.body, request.owner)


def _permit(what: str, owner: str, request: Request) -> None:
    if owner != request.owner and not request.adopt:
        message = f"{what} belongs to {owner}, not to {request.owner}. Let {owner} change it, or adopt it (adopt=true)"
        raise ConflictError("foreign-owner", message, None)
