"""Checks what no schema says of rendered manifests: policy.py FILE...

Every pod meets the restricted Pod Security Standard and has a read-only root file system, every
object carries the standard labels, no two have the same name, Services and budgets select the pods
they are for, and the operator has no wildcard, no right over RBAC, cannot list Secrets and cannot
delete claims.
"""

import sys

import yaml

LABELS = ["name", "instance", "version", "part-of", "managed-by", "component"]


def pods(manifest):
    if manifest["kind"] == "Pod":
        yield manifest["spec"]
    elif manifest["kind"] in ("Deployment", "StatefulSet", "Job"):
        yield manifest["spec"]["template"]["spec"]


def unrestricted(pod):
    """What the restricted standard, or ours, does not allow."""
    context = pod.get("securityContext", {})
    if context.get("runAsNonRoot") is not True or context.get("runAsUser") != 65532:
        yield "runs as somebody else than 65532"
    if context.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield "has no seccomp profile RuntimeDefault"
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(field):
            yield f"sets {field}"
    for volume in pod.get("volumes", []):
        if set(volume) - {"name"} != {"projected"}:
            yield f"has the volume {volume['name']}"
    for container in pod["containers"]:
        own = container.get("securityContext", {})
        if own.get("allowPrivilegeEscalation") is not False:
            yield "allows privilege escalation"
        if own.get("readOnlyRootFilesystem") is not True:
            yield "can write to its root file system"
        if own.get("capabilities") != {"drop": ["ALL"]}:
            yield "keeps capabilities"
        if not container.get("resources", {}).get("limits", {}).get("memory"):
            yield "has no limit of memory"


def excessive(role):
    """Rights that the operator or a store must not have."""
    if "aggregate-to-" in str(role["metadata"]["labels"]):
        return  # rights of people
    for rule in role["rules"]:
        text = [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
        if "*" in text:
            yield f"has a wildcard: {rule}"
        if "rbac.authorization.k8s.io" in text or {"bind", "escalate", "impersonate"} & set(text):
            yield f"has rights over rights: {rule}"
        if {"pods/exec", "nodes", "namespaces"} & set(text):
            yield f"reaches too far: {rule}"
        if "secrets" in text and {"list", "watch"} & set(text):
            yield f"can ask which Secrets there are: {rule}"
        if "persistentvolumeclaims" in text and "delete" in text:
            yield f"can delete data: {rule}"


def findings(manifests):
    seen = set()
    for manifest in manifests:
        meta = manifest["metadata"]
        name = f"{manifest['kind']} {meta.get('namespace', '')}/{meta['name']}"
        if name in seen:
            yield f"{name} is there twice"
        seen.add(name)
        for label in LABELS:
            if f"app.kubernetes.io/{label}" not in meta.get("labels", {}):
                yield f"{name} lacks the label app.kubernetes.io/{label}"
        for pod in pods(manifest):
            yield from (f"{name} {problem}" for problem in unrestricted(pod))
        if manifest["kind"] in ("Role", "ClusterRole"):
            yield from (f"{name} {problem}" for problem in excessive(manifest))
    for kind, owner in (("Service", "Deployment"), ("PodDisruptionBudget", "Deployment")):
        yield from selects(manifests, kind, owner)


def selects(manifests, kind, owner):
    """Objects of `kind` that select no pods, or pods of something else than `owner`."""
    templates = [m for m in manifests if m["kind"] == owner]
    others = [m for m in manifests if m["kind"] == "Pod"]
    for manifest in (m for m in manifests if m["kind"] == kind):
        selector = manifest["spec"]["selector"]
        wanted = selector.get("matchLabels", selector).items()
        if not any(wanted <= t["spec"]["template"]["metadata"]["labels"].items() for t in templates):
            yield f"{kind} {manifest['metadata']['name']} selects no pod"
        if any(wanted <= pod["metadata"]["labels"].items() for pod in others):
            yield f"{kind} {manifest['metadata']['name']} selects the test's pod"


def main():
    bad = False
    for path in sys.argv[1:]:
        with open(path) as file:
            manifests = [manifest for manifest in yaml.safe_load_all(file) if manifest]
        for finding in findings(manifests):
            bad = True
            print(f"{path}: {finding}", file=sys.stderr)
    sys.exit(bad)


main()
