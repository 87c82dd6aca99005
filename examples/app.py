"""Your own os-ken app beside ovsnet's, in one AppManager: it hears when a revision is enforced.

python examples/app.py MODEL HOST unix:/run/openvswitch/br-int.mgmt
"""

import sys
import threading

from os_ken.base.app_manager import OSKenApp
from os_ken.controller.handler import set_ev_cls

import ovsnet
from ovsnet.openflow.events import EventEnforced, EventSwitchConnected

HEARD = threading.Event()


class Watcher(OSKenApp):
    @set_ev_cls(EventSwitchConnected)
    def connected(self, event: EventSwitchConnected) -> None:
        print(f"connected to datapath {event.datapath.id:016x}")

    @set_ev_cls(EventEnforced)
    def enforced(self, event: EventEnforced) -> None:
        for vpc, revision in sorted(event.revisions.items()):
            print(f"{vpc} is enforced at revision {revision}")
        HEARD.set()


def main(path: str, host: str, target: str) -> None:
    desired = ovsnet.compile(model := ovsnet.load([path]), host=host)
    with ovsnet.Switch(target, Watcher) as switch:
        switch.apply(desired, revisions=dict.fromkeys(model.vpcs, 1))
        HEARD.wait(5)


if __name__ == "__main__":
    main(*sys.argv[1:])
