"""The capabilities of the pipeline: one file each, named here and nowhere else."""

from __future__ import annotations

from collections.abc import Iterable

from ovsnet.facts import Facts
from ovsnet.features import arp_nd, dhcp, l2, nat, port_security, provider, routing, security_groups
from ovsnet.features.base import Endpoint, Feature, SourceAddress
from ovsnet.pipeline.checks import check_pipeline
from ovsnet.pipeline.fields import REGISTER_FIELDS
from ovsnet.pipeline.tables import BY_NAME, TABLES
from ovsnet.pipeline.template import FlowTemplate, Row, miss_templates

_MISSES = miss_templates(TABLES, BY_NAME)


def _misses(_facts: Facts) -> Iterable[Row]:
    return [template.row() for template in _MISSES.values()]


PIPELINE = Feature("pipeline", "The table-miss flows.", tuple(_MISSES.values()), host=_misses)

FEATURES: tuple[Feature, ...] = (
    PIPELINE, l2.FEATURE, arp_nd.FEATURE, port_security.FEATURE, security_groups.FEATURE, routing.FEATURE,
    dhcp.FEATURE, nat.FEATURE, provider.FEATURE,
)  # fmt: skip
TEMPLATES: tuple[FlowTemplate, ...] = tuple(template for feature in FEATURES for template in feature.templates)
BY_COOKIE: dict[int, FlowTemplate] = {template.cookie: template for template in TEMPLATES}

check_pipeline(TABLES, REGISTER_FIELDS, TEMPLATES)

__all__ = ["BY_COOKIE", "FEATURES", "TEMPLATES", "Endpoint", "Feature", "SourceAddress"]
