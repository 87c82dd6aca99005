"""A libvirt domain whose NIC is an ovsnet port; print it, for `virsh define`.

python examples/libvirt/run.py [PORT [DISK]]
"""

import sys
from pathlib import Path
from xml.etree import ElementTree

import ovsnet
from ovsnet.cli.port import interface_xml
from ovsnet.model.names import find_port, port_mtu

MODEL = Path(__file__).with_name("libvirt.yaml")
DOMAIN = """
<domain type="kvm">
  <name/>
  <memory unit="MiB">512</memory>
  <vcpu>1</vcpu>
  <os><type arch="x86_64" machine="q35">hvm</type></os>
  <features><acpi/></features>
  <devices>
    <disk type="file" device="disk">
      <driver name="qemu" type="qcow2"/>
      <source/>
      <target dev="vda" bus="virtio"/>
    </disk>
    <console type="pty"/>
  </devices>
</domain>
"""


def main(name: str = "shop/web1", disk: str = "/var/lib/libvirt/images/web1.qcow2") -> None:
    model = ovsnet.load([MODEL])
    vpc, port_name, port = find_port(model, name)
    domain = ElementTree.fromstring(DOMAIN)
    domain.find("name").text = f"{vpc}-{port_name}"
    domain.find("devices/disk/source").set("file", disk)
    nic = interface_xml(port.id, port.mac, "br-int", port_mtu(model, vpc, port))
    domain.find("devices").append(ElementTree.fromstring(nic))
    ElementTree.indent(domain)
    print(ElementTree.tostring(domain, encoding="unicode"))


if __name__ == "__main__":
    main(*sys.argv[1:])
