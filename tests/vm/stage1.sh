#!/bin/busybox sh
# First program of the virtual machine, in the initial ramdisk: loads the drivers of the disks and enters the root file
# system. vda: root (read-only, shared by all runs), vdb: this run's script and tree, vdc: the Python packages, vdd: results.
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t devtmpfs devtmpfs /dev
for module in /lib/*.ko; do
    insmod "$module" || echo "stage1: $module does not load"
done
mkdir -p /base /top
mount -t ext4 -o ro /dev/vda /base
mount -t tmpfs -o size=75% tmpfs /top
mkdir /top/upper /top/work
mount -t overlay -o lowerdir=/base,upperdir=/top/upper,workdir=/top/work overlay /new
mount -t ext4 -o ro /dev/vdb /new/mnt/guest
mount -t ext4 -o ro /dev/vdc /new/mnt/site
mount --move /dev /new/dev
mount --move /proc /new/proc
exec switch_root /new /bin/bash /mnt/guest/stage2.sh
