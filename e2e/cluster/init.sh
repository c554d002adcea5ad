#!/usr/bin/env bash
# The first process inside a cluster's namespaces: starts every component, and starts again the
# ones that end. Started by cluster.sh; when it dies, the kernel ends all that it started.
#
# Expects in the environment: state, NODE, GROUP, here, STAGES, PATH with the programs first.
set -euo pipefail

: "${state:?set by cluster.sh}" "${NODE:?}" "${here:?}" "${STAGES:?}"
log=$state/log
pki=$state/pki

# Folders that programs insist on outside the state folder: empty ones of our own hide the host's.
mount --make-rshared /
while read -r folder; do
    mount -t tmpfs -o mode=755 tmpfs "$folder"
done <"$state/private-folders"
sysctl -qw net.ipv4.ip_forward=1

# supervise NAME COMMAND...: restarts it whenever it ends, unless $state/hold/NAME is there.
supervise() {
    local name=$1 code
    shift
    (
        while :; do
            while [ -e "$state/hold/$name" ]; do sleep 0.2; done
            "$@" >>"$log/$name.log" 2>&1 &
            echo $! >"$state/run/$name.pid"
            code=0
            wait $! || code=$?
            rm -f "$state/run/$name.pid"
            echo "$(date -Is) $name ended with status $code"
            sleep 0.5
        done
    ) &
}

ready() { curl -sf --cacert "$pki/ca.crt" https://127.0.0.1:6443/readyz >/dev/null; }

supervise etcd etcd --data-dir "$state/etcd" --unsafe-no-fsync --log-level warn \
    --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
    --listen-peer-urls http://127.0.0.1:2380
supervise containerd containerd -c "$state/containerd.toml"
supervise kube-apiserver kube-apiserver --etcd-servers=http://127.0.0.1:2379 \
    --advertise-address="$NODE" --secure-port=6443 --service-cluster-ip-range=10.96.0.0/16 \
    --tls-cert-file="$pki/apiserver.crt" --tls-private-key-file="$pki/apiserver.key" \
    --client-ca-file="$pki/ca.crt" --authorization-mode=Node,RBAC \
    --enable-admission-plugins=NodeRestriction --allow-privileged=true \
    --service-account-issuer=https://kubernetes.default.svc.cluster.local \
    --service-account-key-file="$pki/sa.pub" --service-account-signing-key-file="$pki/sa.key" \
    --kubelet-client-certificate="$pki/kubelet-client.crt" \
    --kubelet-client-key="$pki/kubelet-client.key" --kubelet-certificate-authority="$pki/ca.crt" \
    --kubelet-preferred-address-types=InternalIP \
    --audit-policy-file="$state/audit.yaml" --audit-log-path="$log/audit.log" --audit-log-maxsize=1000

# The others would end and be restarted until it answers.
until ready; do sleep 0.1; done

supervise kube-controller-manager kube-controller-manager \
    --kubeconfig="$state/kube-controller-manager.kubeconfig" --use-service-account-credentials \
    --root-ca-file="$pki/ca.crt" --service-account-private-key-file="$pki/sa.key" \
    --cluster-signing-cert-file="$pki/ca.crt" --cluster-signing-key-file="$pki/ca.key" \
    --leader-elect=false --bind-address=127.0.0.1
supervise kube-scheduler kube-scheduler --kubeconfig="$state/kube-scheduler.kubeconfig" \
    --leader-elect=false --bind-address=127.0.0.1
supervise kubelet kubelet --config="$state/kubelet.yaml" --kubeconfig="$state/node1.kubeconfig" \
    --hostname-override=node1 --node-ip="$NODE" --root-dir="$state/kubelet" --v=2
supervise kube-proxy kube-proxy --config="$state/kube-proxy.yaml"
# Of all that it can do, only NetworkPolicies.
supervise kube-router kube-router --kubeconfig="$state/kube-router.kubeconfig" \
    --run-firewall --run-router=false --run-service-proxy=false --hostname-override=node1 \
    --service-cluster-ip-range=10.96.0.0/16 --health-port=0 --metrics-port=0
supervise coredns coredns -conf "$state/Corefile"
stages=()
for stage in "$STAGES"/*.yaml; do stages+=("--config=$stage"); done
KWOK_WORKDIR=$state/kwok supervise kwok kwok --kubeconfig="$state/kwok.kubeconfig" "${stages[@]}" \
    --manage-all-nodes=false --manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake \
    --cidr=10.245.0.0/16 --node-lease-duration-seconds=40
supervise volumes-claims "$here/volumes.sh" claims
supervise volumes-released "$here/volumes.sh" released

wait
