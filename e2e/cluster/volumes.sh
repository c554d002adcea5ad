#!/usr/bin/env bash
# Plays the external provisioner and resizer of StorageClass `standard`, with a file system for
# each volume: volumes.sh claims|released, inside the namespaces and supervised by init.sh.
#
# It follows the API server's watch. When that ends it ends too, and is started again with a
# fresh list, so nothing is missed while the API server was away.
set -euo pipefail

: "${state:?set by init.sh}"
export KUBECONFIG=$state/volumes.kubeconfig
provisioner=e2e.llm-memory/folder

# What to do about a claim, as a line: provision NAMESPACE NAME UID SIZE CLASS NODE MODES, or
# resize NAMESPACE NAME VOLUME SIZE.
# shellcheck disable=SC2016 # the variables are jq's
claim_actions='
    select(.metadata.deletionTimestamp | not)
    | .metadata.annotations["volume.kubernetes.io/selected-node"] as $node
    | .spec.resources.requests.storage as $size
    | select(.metadata.annotations["volume.kubernetes.io/storage-provisioner"] == $provisioner)
    | if .status.phase == "Pending" and (.spec.volumeName | not) then
        ["provision", .metadata.namespace, .metadata.name, .metadata.uid, $size,
         .spec.storageClassName, $node // "node1", (.spec.accessModes | join(","))]
      elif .status.phase == "Bound" and $size != .status.capacity.storage then
        ["resize", .metadata.namespace, .metadata.name, .spec.volumeName, $size]
      else empty end
    | @tsv'

# shellcheck disable=SC2016
released_actions='
    select(.metadata.annotations["pv.kubernetes.io/provisioned-by"] == $provisioner)
    | select(.metadata.deletionTimestamp | not)
    | select(.status.phase == "Released" and .spec.persistentVolumeReclaimPolicy == "Delete")
    | ["remove", .metadata.name]
    | @tsv'

# bytes QUANTITY: 1Gi as 1073741824. numfmt knows every suffix of Kubernetes but the lower-case k.
bytes() { numfmt --from=auto "${1/k/K}"; }

# make_disk FOLDER SIZE: a file system of exactly that size, as a provider's disk has one, so that
# how full it is does not depend on this machine's disk. It is in memory, since to enlarge ext4
# while it is used takes CAP_SYS_RESOURCE, which the machine may lack.
make_disk() {
    mountpoint -q "$1" && return
    mkdir -p "$1"
    mount -t tmpfs -o "size=$2,mode=755" volume "$1"
}

provision() {
    local namespace=$1 name=$2 uid=$3 size=$4 class=$5 node=$6 modes=$7 policy
    policy=$(kubectl get storageclass "$class" -o 'jsonpath={.reclaimPolicy}')
    # A claim is seen several times before it is bound.
    kubectl get persistentvolume "pvc-$uid" >/dev/null 2>&1 && return
    # Nothing is mounted on a node that kwok plays.
    [ "$node" != node1 ] || make_disk "$state/volumes/pvc-$uid" "$(bytes "$size")"
    kubectl create -f - <<YAML
apiVersion: v1
kind: PersistentVolume
metadata:
  name: pvc-$uid
  annotations: { pv.kubernetes.io/provisioned-by: $provisioner }
spec:
  capacity: { storage: "$size" }
  accessModes: [$modes]
  storageClassName: $class
  persistentVolumeReclaimPolicy: $policy
  claimRef: { apiVersion: v1, kind: PersistentVolumeClaim, namespace: $namespace, name: $name, uid: $uid }
  local: { path: $state/volumes/pvc-$uid }
  nodeAffinity:
    required:
      nodeSelectorTerms:
        - matchExpressions: [{ key: kubernetes.io/hostname, operator: In, values: [$node] }]
YAML
}

resize() {
    local namespace=$1 name=$2 volume=$3 size=$4
    ! mountpoint -q "$state/volumes/$volume" ||
        mount -o "remount,size=$(bytes "$size")" "$state/volumes/$volume"
    kubectl patch persistentvolume "$volume" --type merge \
        -p "{\"spec\":{\"capacity\":{\"storage\":\"$size\"}}}"
    kubectl patch persistentvolumeclaim "$name" --namespace "$namespace" --subresource status --type merge \
        -p "{\"status\":{\"capacity\":{\"storage\":\"$size\"},\"conditions\":null}}"
}

remove() {
    local folder=${state:?}/volumes/${1:?}
    if mountpoint -q "$folder"; then umount "$folder"; fi
    rm -rf --one-file-system "$folder"
    kubectl delete persistentvolume "$1" --wait=false
}

case ${1:-} in
    claims) kind=persistentvolumeclaims actions=$claim_actions ;;
    released) kind=persistentvolumes actions=$released_actions ;;
    *) echo "usage: volumes.sh claims|released" >&2; exit 2 ;;
esac
kubectl get "$kind" --all-namespaces --watch -o json |
    jq --unbuffered -r --arg provisioner "$provisioner" "$actions" |
    while IFS=$'\t' read -r action arguments; do
        IFS=$'\t' read -ra list <<<"$arguments"
        # A failure ends this script, so that the restart sees the object again.
        "$action" "${list[@]}" || kill $$
    done
