"""The part of the Open_vSwitch database that is replicated, by table and column (ovs-vswitchd.conf.db(5)).

It is declared here rather than fetched, so that connecting takes no extra round trip and nothing else is replicated:
statistics, which ovs-vswitchd rewrites every five seconds, never wake us.
"""

from __future__ import annotations

from typing import Any

_STRING: dict[str, Any] = {"type": "string"}
_INTEGER: dict[str, Any] = {"type": "integer"}
_MAP: dict[str, Any] = {"type": {"key": "string", "value": "string", "min": 0, "max": "unlimited"}}
_STRINGS: dict[str, Any] = {"type": {"key": "string", "min": 0, "max": "unlimited"}}
_OPTIONAL_STRING: dict[str, Any] = {"type": {"key": "string", "min": 0, "max": 1}}
_OPTIONAL_INTEGER: dict[str, Any] = {"type": {"key": "integer", "min": 0, "max": 1}}


def _references(table: str) -> dict[str, Any]:
    return {"type": {"key": {"type": "uuid", "refTable": table}, "min": 0, "max": "unlimited"}}


TABLES: dict[str, dict[str, dict[str, Any]]] = {
    "Open_vSwitch": {
        "bridges": _references("Bridge"),
        "cur_cfg": _INTEGER,
        "next_cfg": _INTEGER,
        "ovs_version": _OPTIONAL_STRING,
        "other_config": _MAP,
        "external_ids": _MAP,
        "datapaths": {
            "type": {
                "key": "string",
                "value": {"type": "uuid", "refTable": "Datapath"},
                "min": 0,
                "max": "unlimited",
            }
        },
    },
    "Bridge": {
        "name": _STRING,
        "ports": _references("Port"),
        "controller": _references("Controller"),
        "fail_mode": _OPTIONAL_STRING,
        "protocols": _STRINGS,
        "other_config": _MAP,
        "external_ids": _MAP,
        "datapath_type": _STRING,
        "datapath_id": _OPTIONAL_STRING,
    },
    "Port": {"name": _STRING, "interfaces": _references("Interface"), "external_ids": _MAP},
    "Interface": {
        "name": _STRING,
        "type": _STRING,
        "options": _MAP,
        "external_ids": _MAP,
        "ofport": _OPTIONAL_INTEGER,
        "error": _OPTIONAL_STRING,
        "link_state": _OPTIONAL_STRING,
    },
    "Datapath": {"capabilities": _MAP},
    "Controller": {"target": _STRING},
}


def schema_json() -> dict[str, Any]:
    """A fresh copy of the schema in the JSON form of RFC 7047, section 3.2 (the library keeps and changes it)."""
    return {
        "name": "Open_vSwitch",
        "version": "8.0.0",
        "tables": {
            name: {
                "columns": {column: dict(kind) for column, kind in columns.items()},
                "isRoot": name == "Open_vSwitch",
            }
            for name, columns in TABLES.items()
        },
    }
