"""A model file, compiled and applied to one bridge by the library alone: no agent, no controller.

    python examples/library.py MODEL HOST [unix:/run/openvswitch/br-int.mgmt]

Without a bridge it prints what the host would get, with OpenFlow ports assumed.
"""

import sys

import ovsnet


def main(path: str, host: str, target: str | None = None) -> None:
    model = ovsnet.load([path])
    desired = ovsnet.compile(model, host=host)
    print(f"{host} needs {len(desired)} flows, among them:")
    for flow in sorted(desired, key=lambda flow: (flow.row.template.table.id, str(flow.subject)))[:3]:
        print(f"  {flow.subject!s:<14} {ovsnet.flow_text(flow.row)}")

    fewer = ovsnet.compile(model, host=host, facts=ovsnet.Facts(tunnel_ofport=1))
    print(f"with nothing plugged: {len(desired.diff(fewer).add)} of them fewer")

    if target:
        with ovsnet.Switch(target) as switch:
            print(f"to do:   {switch.plan(desired).counts}")
            print(f"refused: {[str(refused) for refused in switch.apply(desired).refused.values()]}")
            print(f"to do:   {switch.plan(desired).counts}")


if __name__ == "__main__":
    main(*sys.argv[1:])
