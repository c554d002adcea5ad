# shellcheck shell=bash
# Certificates and the kubeconfig of each component. Sourced by cluster.sh.
# shellcheck disable=SC2154 # settings are shared with cluster.sh

# The identities, each with its own, so that the audit log tells them apart.
identities() {
    local masters=/O=system:masters/CN=
    certificate apiserver /CN=kube-apiserver "IP:127.0.0.1,IP:$NODE,IP:10.96.0.1,DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local"
    certificate kubelet-client "${masters}kube-apiserver-kubelet-client"
    certificate admin "${masters}admin"
    certificate kube-controller-manager /CN=system:kube-controller-manager
    certificate kube-scheduler /CN=system:kube-scheduler
    certificate kube-proxy /CN=system:kube-proxy
    certificate coredns /CN=system:coredns
    certificate kwok "${masters}kwok" # plays kubelets of any node, so no smaller role fits
    certificate kube-router "${masters}kube-router"
    certificate volumes "${masters}volumes"
    certificate node1 /O=system:nodes/CN=system:node:node1 "DNS:node1,IP:127.0.0.1,IP:$NODE"
}

# certificate NAME SUBJECT [ALTERNATIVE-NAMES]
certificate() {
    local file=$state/pki/$1
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "$2" \
        -keyout "$file.key" -out "$file.csr" 2>/dev/null
    openssl x509 -req -in "$file.csr" -CA "$state/pki/ca.crt" -CAkey "$state/pki/ca.key" \
        -CAcreateserial -days 365 -out "$file.crt" -extfile <(
            echo "extendedKeyUsage=serverAuth,clientAuth"
            [ -z "${3:-}" ] || echo "subjectAltName=$3"
        ) 2>/dev/null
    rm "$file.csr"
    kubeconfig "$1" >"$state/$1.kubeconfig"
}

# kubeconfig NAME: with everything inside, so that the file can be copied elsewhere.
kubeconfig() {
    local pki=$state/pki
    cat <<YAML
apiVersion: v1
kind: Config
clusters:
  - name: $name
    cluster:
      server: https://$NODE:6443
      certificate-authority-data: $(base64 -w0 <"$pki/ca.crt")
users:
  - name: $1
    user:
      client-certificate-data: $(base64 -w0 <"$pki/$1.crt")
      client-key-data: $(base64 -w0 <"$pki/$1.key")
contexts:
  - name: $name
    context: { cluster: $name, user: $1 }
current-context: $name
YAML
}

make_pki() {
    (
        umask 077
        mkdir -p "$state/pki"
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 365 \
            -subj "/CN=$GROUP" -keyout "$state/pki/ca.key" -out "$state/pki/ca.crt" 2>/dev/null
        openssl genrsa -out "$state/pki/sa.key" 2048 2>/dev/null
        openssl rsa -in "$state/pki/sa.key" -pubout -out "$state/pki/sa.pub" 2>/dev/null
        identities
        mv "$state/admin.kubeconfig" "$state/kubeconfig"
    )
}
