#!/bin/bash
# Second program of the virtual machine: makes the system usable, runs /mnt/guest/script, hands the results over, powers off.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 RESULTS=/run/results
mount -t sysfs sysfs /sys
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp
mkdir -p /run/openvswitch /run/results /run/tree-upper /run/tree-work
ln -sf /proc/self/fd /dev/fd
echo ovsnet-vm >/proc/sys/kernel/hostname
# the console is for the script's output alone, after this
dmesg -n 1
ip link set lo up
for module in openvswitch vport-vxlan vport-geneve veth tun nf_conntrack sch_netem sch_htb; do
    modprobe "$module" || echo "stage2: module $module does not load"
done

# The tree and the virtual environment appear where the host has them. The tree is writable; what is written is lost.
. /mnt/guest/environment
mkdir -p "$TREE"
mount -t overlay -o "lowerdir=/mnt/guest/tree,upperdir=/run/tree-upper,workdir=/run/tree-work" overlay "$TREE"
mkdir -p "$SITE" "$PREFIX/bin"
mount --bind /mnt/site "$SITE"
printf 'home = /usr/bin\ninclude-system-site-packages = false\n' >"$PREFIX/pyvenv.cfg"
for name in python python3 python3.11; do
    ln -sf /usr/bin/python3.11 "$PREFIX/bin/$name"
done
export PATH="$PREFIX/bin:$PATH" PYTHONPATH="$TREE" PYTHONUNBUFFERED=1 TREE

# Open vSwitch 3.1 counts the processors for the first time when the machine has been up for 10 s; a vswitchd that starts
# earlier on the kernel datapath runs with no handler thread and loses every upcall, for good.
while [ "$(cut -d . -f 1 /proc/uptime)" -lt 11 ]; do sleep 0.2; done

cd "$TREE" || exit 1
echo "=== ovsnet-vm: script starts after $(cut -d ' ' -f 1 /proc/uptime) s ==="
bash /mnt/guest/script </dev/null 2>&1 | tee /run/output
code=${PIPESTATUS[0]}
echo "=== ovsnet-vm: exit code $code ==="
cp /run/output "$RESULTS/.output"
echo "$code" >"$RESULTS/.exit-code"
dmesg >"$RESULTS/.dmesg"
tar -C "$RESULTS" -cf - . | dd of=/dev/vdd bs=1M status=none
sync
busybox poweroff -f
