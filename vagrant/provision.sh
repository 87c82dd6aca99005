#!/usr/bin/env bash
# Makes a Debian 12 a machine of the lab: provision.sh [STEP...], by default all steps of the machine's role, in order.
#
#   packages     Debian packages that are missing (the home-made box lacks none)
#   ovsnet       the package and what it depends on, into /opt/ovsnet, and its systemd units
#   switch       Open vSwitch, on the kernel's datapath                              hypervisors
#   agent        its certificates and options; started, or started again             hypervisors
#   workloads    a unit for each port of this host                                   hypervisors
#   bus          nats-server with the permissions of `ovsnet pki`                    the controller, if it is wanted
#   controller   its certificates and options; started, or started again             the controller
#   model        handed to the controller                                            the controller
#
# Every step may be repeated. What it reads: the folders that vagrant/stage.py writes, and
#   MACHINE, ADDRESS        this machine's name, and its address on the private network
#   CONTROLLER              the controller's address
#   TRANSPORT               direct: the controller calls the agents; nats: all are on a bus
#   ENCAPSULATION           vxlan or geneve
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive

site=${SITE:-/srv/ovsnet} keys=${KEYS:-/srv/ovsnet-keys}
tls=/etc/ovsnet/tls
socket=/run/ovsnet-controller/controller.sock

fail() {
    echo "provision.sh: $*" >&2
    exit 2
}

require_settings() {
    : "${MACHINE:?}" "${ADDRESS:?}" "${CONTROLLER:?}"
    [[ ${TRANSPORT:=direct} =~ ^(direct|nats)$ ]] || fail "TRANSPORT=$TRANSPORT: say direct or nats."
    [[ ${ENCAPSULATION:=vxlan} =~ ^(vxlan|geneve)$ ]] || fail "ENCAPSULATION=$ENCAPSULATION: say vxlan or geneve."
}

installed() { [[ $(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null) == installed ]]; }

step_packages() {
    local package missing=()
    while read -r package; do
        installed "$package" || missing+=("$package")
    done < <(sed 's/#.*//; /^\s*$/d' "$site/packages.txt")
    if [[ ${#missing[@]} -eq 0 ]]; then return; fi
    apt-get update -q
    apt-get install -q -y --no-install-recommends "${missing[@]}"
    # Each role starts what it needs.
    systemctl disable --now --quiet openvswitch-switch.service nats-server.service
}

step_ovsnet() {
    local state unit
    state=$(sha256sum <"$site/ovsnet.tar.gz")
    if [[ $(cat /opt/ovsnet/.unpacked 2>/dev/null) == "$state" ]]; then return; fi
    rm -rf /opt/ovsnet
    tar -C / -xzf "$site/ovsnet.tar.gz"
    for unit in /opt/ovsnet/lib/systemd/system/*.service; do
        install -m 644 "$unit" /etc/systemd/system/
    done
    ln -sf /opt/ovsnet/bin/ovsnet /usr/local/bin/ovsnet
    systemctl daemon-reload
    echo "$state" >/opt/ovsnet/.unpacked
}

step_switch() {
    install -D -m 644 "$site/wait-for-processors.conf" /etc/systemd/system/ovs-vswitchd.service.d/ovsnet.conf
    systemctl daemon-reload
    systemctl enable --now --quiet openvswitch-switch.service
}

# The certificates in a folder of this machine's, for a user who has to be able to read them.
install_keys() { # install_keys FOLDER TARGET USER
    install -d -m 750 -o root -g "$3" "$2"
    install -m 640 -o root -g "$3" "$keys/$1"/* "$2/"
}

bus_options() {
    echo "--nats tls://$CONTROLLER:4222 --nats-cert $tls/cert.pem --nats-key $tls/key.pem --nats-ca $tls/callers-ca.pem"
}

step_agent() {
    local options
    install_keys tls "$tls" root
    if [[ $TRANSPORT == nats ]]; then
        options=$(bus_options)
    else
        options="--listen $ADDRESS:7443 --tls-cert $tls/cert.pem --tls-key $tls/key.pem --tls-ca $tls/callers-ca.pem"
    fi
    cat >/etc/ovsnet/agent.env <<END
OVSNET_HOST=$MACHINE
OVSNET_VTEP=$ADDRESS
OVSNET_OPTIONS=--encapsulation $ENCAPSULATION $options
END
    systemctl enable --quiet ovsnet-agent.service
    systemctl restart ovsnet-agent.service
}

step_workloads() {
    local file name units=()
    install -m 755 "$site/ovsnet-workload" /usr/local/sbin/
    install -m 644 "$site/ovsnet-workload@.service" /etc/systemd/system/
    install -d /etc/ovsnet/workloads
    for file in "$site/workloads/$MACHINE"/*.env; do
        name=$(basename "$file" .env)
        install -m 644 "$file" /etc/ovsnet/workloads/
        units+=("ovsnet-workload@$name.service")
    done
    systemctl daemon-reload
    systemctl enable --quiet "${units[@]}"
    systemctl restart "${units[@]}"
}

step_bus() {
    if [[ $TRANSPORT != nats ]]; then
        systemctl disable --now --quiet nats-server.service
        return
    fi
    install_keys nats /etc/nats/ovsnet nats
    install -d /etc/systemd/system/nats-server.service.d
    cat >/etc/systemd/system/nats-server.service.d/ovsnet.conf <<END
[Unit]
After=network-online.target
Wants=network-online.target

[Service]
ExecStart=
ExecStart=/usr/sbin/nats-server -c /etc/nats/ovsnet/nats.conf
Restart=always
RestartSec=1
END
    systemctl daemon-reload
    systemctl enable --quiet nats-server.service
    systemctl restart nats-server.service
}

step_controller() {
    local options
    id ovsnet >/dev/null 2>&1 || useradd --system --home-dir /nonexistent --shell /usr/sbin/nologin ovsnet
    install_keys tls "$tls" ovsnet
    if [[ $TRANSPORT == nats ]]; then
        options=$(bus_options)
    else
        options="--direct --agent-cert $tls/cert.pem --agent-key $tls/key.pem --agent-ca $tls/hosts-ca.pem"
    fi
    echo "OVSNET_OPTIONS=$options" >/etc/ovsnet/controller.env
    systemctl enable --quiet ovsnet-controller.service
    systemctl restart ovsnet-controller.service
}

# The hypervisors may not be there yet: exit code 1 says that not all of them enforce it.
step_model() {
    local code=0
    ovsnet apply "$site/model.json" --site "$site/site-$ENCAPSULATION.json" --controller "$socket" --wait 1 || code=$?
    [[ $code -le 1 ]] || exit "$code"
}

require_settings
if [[ $# -eq 0 ]]; then
    if [[ $MACHINE == controller ]]; then
        set -- packages ovsnet bus controller model
    else
        set -- packages ovsnet switch agent workloads
    fi
fi
for step in "$@"; do
    [[ $(type -t "step_$step") == function ]] || fail "'$step' is no step. The steps stand at the top of $0."
    began=$SECONDS
    "step_$step"
    echo "$MACHINE: $step, $((SECONDS - began)) s"
done
