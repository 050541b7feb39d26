"""Broken manifests, one by one, and the problem that a policy has to report."""

# Size: a table with a line for every way in which a manifest can break a policy.
from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

Manifest = dict[str, Any]
Manifests = list[Manifest]
Breaking = Callable[[Manifests], None]


@dataclass(frozen=True, slots=True)
class Mutation:
    """A change of the manifests of an overlay, and a part of what the policy says of it."""

    policy: str
    says: str
    breaks: Breaking
    overlay: str = "prod"


def find(manifests: Manifests, kind: str, name: str) -> Manifest:
    """Return one manifest; generated names may have their hash."""
    found = [
        each
        for each in manifests
        if each["kind"] == kind
        and (each["metadata"]["name"] == name or each["metadata"]["name"].startswith(f"{name}-"))
    ]
    exact = [each for each in found if each["metadata"]["name"] == name]
    return (exact or found)[0]


def pod(manifests: Manifests, name: str, kind: str = "Deployment") -> dict[str, Any]:
    return find(manifests, kind, name)["spec"]["template"]["spec"]  # type: ignore[no-any-return]


def put(kind: str, name: str, path: str, value: object) -> Breaking:
    """Return a change that sets one field; `None` removes it. Numbers are indexes of lists."""

    def breaks(manifests: Manifests) -> None:
        *parents, last = (int(key) if key.isdecimal() else key for key in path.split("/"))
        place: Any = find(manifests, kind, name)
        for key in parents:
            place = place[key]
        if value is None:
            del place[last]
        else:
            place[last] = value

    return breaks


def remove(kind: str, name: str) -> Breaking:
    """Return a change that removes a manifest."""
    return lambda manifests: manifests.remove(find(manifests, kind, name))


def variable(name: str, setting: str, value: str, kind: str = "Deployment") -> Breaking:
    """Return a change that sets a variable of a workload."""

    def breaks(manifests: Manifests) -> None:
        env = pod(manifests, name, kind)["containers"][0].setdefault("env", [])
        env[:] = [entry for entry in env if entry["name"] != setting]
        env.append({"name": setting, "value": value})

    return breaks


def again(kind: str, name: str, new_name: str) -> Breaking:
    """Return a change that adds a copy of a manifest under another name."""

    def breaks(manifests: Manifests) -> None:
        added = copy.deepcopy(find(manifests, kind, name))
        added["metadata"]["name"] = new_name
        manifests.append(added)

    return breaks


def allow(name: str, way: str, rule: dict[str, Any]) -> Breaking:
    """Return a change that adds a rule to a network policy."""

    def breaks(manifests: Manifests) -> None:
        spec = find(manifests, "NetworkPolicy", name)["spec"]
        spec.setdefault(way, []).append(rule)
        spec["policyTypes"] = sorted({*spec["policyTypes"], way.capitalize()})

    return breaks


def both(first: Breaking, second: Breaking) -> Breaking:
    """Return two changes as one."""

    def breaks(manifests: Manifests) -> None:
        first(manifests)
        second(manifests)

    return breaks


_ANY_REPOSITORY: Final = {"matchLabels": {"app.kubernetes.io/name": "repository"}}
POD: Final = "spec/template/spec"
MAIN: Final = f"{POD}/containers/0"
D: Final = "Deployment"

MUTATIONS: Final = (
    Mutation(
        "restricted pods",
        "runAsNonRoot",
        put(D, "intake", f"{POD}/securityContext/runAsNonRoot", None),
    ),
    Mutation(
        "restricted pods",
        "seccomp",
        put(D, "gateway", f"{POD}/securityContext/seccompProfile", None),
    ),
    Mutation(
        "restricted pods",
        "the user of its image",
        put(D, "intake", f"{POD}/securityContext/runAsUser", 1),
    ),
    Mutation("restricted pods", "hostNetwork", put(D, "intake", f"{POD}/hostNetwork", True)),
    Mutation(
        "restricted pods",
        "hostPath",
        put(D, "processor", f"{POD}/volumes/1", {"name": "spool", "hostPath": {}}),
    ),
    Mutation(
        "restricted pods",
        "privileged",
        put(D, "intake", f"{MAIN}/securityContext/privileged", True),
    ),
    Mutation(
        "restricted pods",
        "allowPrivilege",
        put(D, "intake", f"{MAIN}/securityContext/allowPrivilegeEscalation", True),
    ),
    Mutation(
        "restricted pods",
        "capabilities",
        put(
            D,
            "intake",
            f"{MAIN}/securityContext/capabilities",
            {"drop": ["ALL"], "add": ["NET_ADMIN"]},
        ),
    ),
    Mutation(
        "restricted pods",
        "root is writable",
        put(D, "intake", f"{MAIN}/securityContext/readOnlyRootFilesystem", False),
    ),
    Mutation(
        "restricted pods",
        "capabilities",
        put("StatefulSet", "kafka", f"{MAIN}/securityContext/capabilities", None),
        "dev",
    ),
    Mutation(
        "writable paths",
        "writes nothing there",
        put(D, "intake", f"{MAIN}/volumeMounts/0/readOnly", False),
    ),
    Mutation(
        "writable paths",
        "/spool is not writable",
        put(D, "processor", f"{MAIN}/volumeMounts/0/readOnly", True),
    ),
    Mutation(
        "writable paths",
        "no sizeLimit",
        put(D, "processor", f"{POD}/volumes/1/emptyDir", {}),
    ),
    Mutation(
        "images",
        "names no version",
        put(D, "intake", f"{MAIN}/image", "registry.example.com/sluice-intake:latest"),
    ),
    Mutation(
        "images",
        "names no version",
        put(D, "intake", f"{MAIN}/image", "registry.example.com:443/sluice-intake"),
    ),
    Mutation("images", "not one of deploy/docker", put(D, "intake", f"{MAIN}/image", "nginx:1.27")),
    Mutation(
        "images", "compose.yaml", put("StatefulSet", "redis", f"{MAIN}/image", "redis:7.2"), "dev"
    ),
    Mutation(
        "spread",
        "topology.kubernetes.io/zone",
        put(
            D,
            "gateway",
            f"{POD}/topologySpreadConstraints/0/labelSelector/matchLabels",
            {"app": "gateway"},
        ),
    ),
    Mutation(
        "spread",
        "kubernetes.io/hostname",
        put(D, "gateway", f"{POD}/topologySpreadConstraints/1", None),
    ),
    Mutation(
        "tokens", "mounts a token", put(D, "gateway", f"{POD}/automountServiceAccountToken", None)
    ),
    Mutation(
        "tokens",
        "mounts its token",
        put("ServiceAccount", "gateway", "automountServiceAccountToken", True),
    ),
    Mutation(
        "tokens",
        "no service account of its own",
        put(D, "gateway", f"{POD}/serviceAccountName", None),
    ),
    Mutation(
        "tokens", "variable for every service", put(D, "gateway", f"{POD}/enableServiceLinks", None)
    ),
    Mutation(
        "secrets",
        "there is no secret",
        put(D, "gateway", f"{POD}/volumes/0/secret/secretName", "other"),
    ),
    Mutation(
        "secrets",
        "has no password",
        put(
            D,
            "intake",
            f"{POD}/volumes/1/secret",
            {"secretName": "mysql", "items": [{"key": "password", "path": "url"}]},
        ),
    ),
    Mutation(
        "secrets",
        "every user may read",
        put(D, "intake", f"{POD}/volumes/1/secret/defaultMode", 0o444),
    ),
    Mutation(
        "secrets",
        "mount a file",
        put(
            D,
            "intake",
            f"{MAIN}/env/0",
            {
                "name": "SLUICE_REDIS__URL",
                "valueFrom": {"secretKeyRef": {"name": "redis", "key": "url"}},
            },
        ),
    ),
    Mutation(
        "secrets",
        "mount files",
        put(D, "intake", f"{MAIN}/envFrom/0", {"secretRef": {"name": "redis"}}),
    ),
    Mutation(
        "resources", "no limit of memory", put(D, "intake", f"{MAIN}/resources/limits/memory", None)
    ),
    Mutation(
        "resources", "requests no cpu", put(D, "intake", f"{MAIN}/resources/requests/cpu", None)
    ),
    Mutation(
        "resources",
        "delays acknowledgements",
        put(D, "intake", f"{MAIN}/resources/limits/cpu", "1"),
    ),
    Mutation(
        "resources",
        "more memory than its limit",
        put(D, "intake", f"{MAIN}/resources/requests/memory", "2Gi"),
    ),
    Mutation(
        "memory", "needs 1514 MiB", put(D, "intake", f"{MAIN}/resources/limits/memory", "1Gi")
    ),
    Mutation(
        "memory", "needs", variable("intake", "SLUICE_GRPC__STREAM_WINDOW_BYTES", str(3 * 2**20))
    ),
    Mutation(
        "memory", "lacks the annotation", put(D, "intake", "spec/template/metadata/annotations", {})
    ),
    Mutation("memory", "needs", variable("processor", "SLUICE_PROCESSOR__WORKERS", "4")),
    Mutation(
        "memory",
        "less than its objects",
        variable("processor", "SLUICE_PROCESSOR__CONCURRENCY", "9"),
    ),
    Mutation(
        "memory",
        "leaves nothing for logs",
        put(D, "processor", f"{MAIN}/resources/limits/ephemeral-storage", "4Gi"),
    ),
    Mutation(
        "quota", "requests.cpu", put("HorizontalPodAutoscaler", "intake", "spec/maxReplicas", 200)
    ),
    Mutation("quota", "pods are wanted", put("ResourceQuota", "sluice", "spec/hard/pods", "20")),
    Mutation("probes", "has no livenessProbe", put(D, "intake", f"{MAIN}/livenessProbe", None)),
    Mutation(
        "probes",
        "asks /readyz instead",
        put(D, "intake", f"{MAIN}/livenessProbe/httpGet/path", "/readyz"),
    ),
    Mutation(
        "probes", "another port", put(D, "gateway", f"{MAIN}/readinessProbe/httpGet/port", "http")
    ),
    Mutation(
        "probes", "HTTP or HTTPS", put(D, "intake", f"{MAIN}/readinessProbe/httpGet/scheme", "HTTP")
    ),
    Mutation(
        "probes",
        "without TLS only",
        put(D, "intake", f"{MAIN}/readinessProbe", {"grpc": {"port": 50051}, "timeoutSeconds": 3}),
    ),
    Mutation(
        "probes",
        "no gRPC server",
        put(D, "intake", f"{MAIN}/readinessProbe/grpc/port", 50052),
        "dev",
    ),
    Mutation("probes", "gives up", put(D, "intake", f"{MAIN}/livenessProbe/timeoutSeconds", 1)),
    Mutation("graceful stop", "no preStop sleep", put(D, "gateway", f"{MAIN}/lifecycle", None)),
    Mutation(
        "graceful stop",
        "no preStop sleep",
        put(D, "repository-api", f"{MAIN}/lifecycle/preStop/sleep/seconds", 1),
    ),
    Mutation("graceful stop", "needs 50 s", variable("intake", "SLUICE_DRAIN_SECONDS", "40")),
    Mutation(
        "graceful stop",
        "before others are ready",
        put(D, "intake", "spec/strategy/rollingUpdate/maxUnavailable", 1),
    ),
    Mutation(
        "settings", "SLUICE_BUKET is no setting", variable("intake", "SLUICE_BUKET", "sluice")
    ),
    Mutation(
        "settings", "no setting of intake", variable("intake", "SLUICE_S3__REGION", "us-east-1")
    ),
    Mutation(
        "settings", "no setting of processor", variable("processor", "SLUICE_REDIS__SHARDS", "16")
    ),
    Mutation(
        "settings",
        "nothing is mounted",
        variable("intake", "SLUICE_REDIS__URL_FILE", "/secrets/redis"),
    ),
    Mutation("settings", "there is no config map", remove("ConfigMap", "settings")),
    Mutation(
        "settings", "SLUICE_DRAIN_SECONDS", variable("intake", "SLUICE_DRAIN_SECONDS", "soon")
    ),
    Mutation(
        "settings",
        "is not a loopback address",
        variable("intake", "SLUICE_ALLOW_INSECURE", "false"),
        "dev",
    ),
    Mutation(
        "settings", "do not run together", variable("gateway", "SLUICE_COORDINATION", "memory")
    ),
    Mutation("ports", "has the ports", put(D, "intake", f"{MAIN}/ports/0/containerPort", 50052)),
    Mutation(
        "ports", "has the ports", variable("gateway", "SLUICE_GATEWAY_ADDRESS", "0.0.0.0:8081")
    ),
    Mutation(
        "ports", "on loopback", variable("gateway", "SLUICE_GATEWAY_ADDRESS", "127.0.0.1:8080")
    ),
    Mutation(
        "services", "selects nothing", put("Service", "intake", "spec/selector", {"app": "intake"})
    ),
    Mutation(
        "services", "has no port rpc", put("Service", "intake", "spec/ports/0/targetPort", "rpc")
    ),
    Mutation("services", "not headless", put("Service", "repository", "spec/clusterIP", None)),
    Mutation(
        "services",
        "there is no service drives",
        variable("intake", "SLUICE_REPOSITORY_SERVER", "dns:///drives:50052"),
    ),
    Mutation(
        "services", "balances calls", variable("gateway", "SLUICE_INTAKE_SERVER", "intake:50051")
    ),
    Mutation(
        "services",
        "there is no service",
        put("Ingress", "gateway", "spec/rules/0/http/paths/0/backend/service/name", "panel"),
    ),
    Mutation("labels", "lacks the labels", put(D, "intake", "metadata/labels", {})),
    Mutation("labels", "0 services have its port", remove("Service", "processor")),
    Mutation(
        "labels", "not those of its Deployment", put("Service", "intake", "metadata/labels", {})
    ),
    Mutation("replicas", "has 2 autoscalers", again("HorizontalPodAutoscaler", "intake", "second")),
    Mutation("replicas", "leave out replicas", put(D, "intake", "spec/replicas", 2)),
    Mutation("replicas", "neither replicas", remove("HorizontalPodAutoscaler", "intake")),
    Mutation("replicas", "there is no Deployment", remove(D, "gateway")),
    Mutation(
        "replicas",
        "would be idle",
        put("ScaledObject", "processor", "spec/maxReplicaCount", 13),
        "keda",
    ),
    Mutation("disruption", "no disruption budget", remove("PodDisruptionBudget", "intake")),
    Mutation(
        "disruption",
        "forbids every eviction",
        put("PodDisruptionBudget", "intake", "spec/maxUnavailable", 0),
    ),
    Mutation(
        "disruption",
        "forbids every eviction",
        put("PodDisruptionBudget", "intake", "spec/minAvailable", 3),
    ),
    Mutation(
        "disruption",
        "selects 0 workloads",
        put("PodDisruptionBudget", "intake", "spec/selector", {"matchLabels": {"app": "intake"}}),
    ),
    Mutation(
        "triggers", "streams", variable("repository-parts", "SLUICE_REDIS__SHARDS", "32"), "keda"
    ),
    Mutation(
        "triggers",
        "whole stream",
        put(
            "ScaledObject",
            "repository-parts",
            "spec/triggers/3/metadata/consumerGroup",
            "repository",
        ),
        "keda",
    ),
    Mutation(
        "triggers",
        "not the sum",
        put("ScaledObject", "repository-parts", "spec/advanced/scalingModifiers/formula", "shard0"),
        "keda",
    ),
    Mutation(
        "triggers",
        "one by one",
        put("ScaledObject", "repository-parts", "spec/advanced", {}),
        "keda",
    ),
    Mutation(
        "triggers",
        "is not photos",
        variable("processor", "SLUICE_PROCESSOR__GROUP", "photos"),
        "keda",
    ),
    Mutation(
        "triggers",
        "its brokers",
        put("ScaledObject", "processor", "spec/triggers/0/metadata/bootstrapServers", "kafka:9092"),
        "keda",
    ),
    Mutation(
        "triggers",
        "its queue",
        put(
            "ScaledObject",
            "processor",
            "spec/triggers/1/metadata/queueURL",
            "https://sqs.eu-central-1.amazonaws.com/1/other",
        ),
        "keda",
    ),
    Mutation(
        "triggers", "no TriggerAuthentication", remove("TriggerAuthentication", "kafka"), "keda"
    ),
    Mutation("network", "no policy refuses", remove("NetworkPolicy", "default-deny")),
    Mutation(
        "network", "gateway cannot connect to intake:50051", remove("NetworkPolicy", "gateway")
    ),
    Mutation(
        "network",
        "intake cannot connect to repository-api:50052",
        remove("NetworkPolicy", "repository-api"),
    ),
    Mutation("network", "cannot connect to redis:6379", remove("NetworkPolicy", "to-redis"), "dev"),
    Mutation("network", "cannot connect to s3:9000", remove("NetworkPolicy", "s3"), "dev"),
    Mutation(
        "network",
        "gateway may connect to repository-parts:50052",
        both(
            put("NetworkPolicy", "repository-api", "spec/podSelector", _ANY_REPOSITORY),
            put("NetworkPolicy", "gateway", "spec/egress/1/to/0/podSelector", _ANY_REPOSITORY),
        ),
    ),
    Mutation(
        "network",
        "namespace everybody may connect to repository-worker",
        allow("default-deny", "ingress", {}),
    ),
    Mutation("network", "cannot connect to redis outside", remove("NetworkPolicy", "to-redis")),
    Mutation(
        "network",
        "migrate may connect to redis outside",
        put("NetworkPolicy", "to-redis", "spec/podSelector", {}),
    ),
    Mutation("network", "may connect to everything", allow("intake", "egress", {})),
    Mutation("network", "cannot resolve names", remove("NetworkPolicy", "to-dns")),
    Mutation(
        "network",
        "namespace default may connect to gateway:9464",
        allow(
            "gateway",
            "ingress",
            {
                "from": [
                    {
                        "namespaceSelector": {
                            "matchLabels": {"kubernetes.io/metadata.name": "default"}
                        }
                    }
                ],
                "ports": [{"port": 9464}],
            },
        ),
    ),
    Mutation(
        "network",
        "namespace everybody may connect to intake",
        allow("intake", "ingress", {"from": [{"namespaceSelector": {}}]}),
    ),
    Mutation(
        "network", "namespace monitoring cannot connect", remove("NetworkPolicy", "from-monitoring")
    ),
    Mutation(
        "transport",
        "its backend speaks GRPCS",
        put("Ingress", "intake", "metadata/annotations", {}),
    ),
    Mutation(
        "transport",
        "does not speak as",
        put("ServiceMonitor", "intake", "spec/endpoints/0/scheme", "http"),
    ),
    Mutation(
        "transport",
        "does not verify",
        put("ServiceMonitor", "intake", "spec/endpoints/0/tlsConfig/insecureSkipVerify", True),
    ),
    Mutation(
        "transport",
        "has no port metric",
        put("ServiceMonitor", "intake", "spec/endpoints/0/port", "metric"),
    ),
    Mutation(
        "transport",
        "selects no service",
        put("ServiceMonitor", "intake", "spec/selector/matchLabels", {"app": "intake"}),
    ),
    Mutation(
        "transport",
        "does not name its service",
        put("Certificate", "repository", "spec/dnsNames", ["drives"]),
    ),
    Mutation("transport", "has 0 certificates", remove("Certificate", "gateway")),
    Mutation(
        "network",
        "intake cannot connect to its issuer behind ingress-nginx",
        put("NetworkPolicy", "to-issuer", "spec/egress/1", None),
    ),
    Mutation(
        "network",
        "may connect to kafka outside, and never does",
        allow(
            "to-mysql",
            "egress",
            {"to": [{"ipBlock": {"cidr": "192.0.2.128/26"}}], "ports": [{"port": 9096}]},
        ),
        "aws",
    ),
    Mutation(
        "network",
        "cannot connect to kafka outside",
        put("ConfigMap", "settings", "data/SLUICE_EVENTS", "kafka"),
        "aws",
    ),
    Mutation(
        "labels",
        "NetworkPolicy to-mysql: lacks the label sluice/stage",
        put("NetworkPolicy", "to-mysql", "metadata/labels", None),
    ),
    Mutation(
        "labels", "ConfigMap settings", put("ConfigMap", "settings", "metadata/labels", {}), "dev"
    ),
    Mutation(
        "authorities",
        "Job migrate: does not mount mysql-ca",
        put("Job", "migrate", f"{POD}/volumes/1", None),
        "aws",
    ),
    Mutation(
        "authorities",
        "Deployment gateway: does not mount mysql-ca",
        put(D, "gateway", f"{MAIN}/volumeMounts/3", None),
        "aws",
    ),
    Mutation(
        "authorities",
        "there is no config map rds",
        put("Job", "migrate", f"{POD}/volumes/1/configMap/name", "rds"),
        "aws",
    ),
    Mutation(
        "aws",
        "none of the stages production, staging",
        variable("gateway", "SLUICE_GATEWAY__ENVIRONMENT", "prod"),
    ),
    Mutation(
        "aws",
        "SLUICE_BUCKET is the default",
        put("ConfigMap", "settings", "data/SLUICE_BUCKET", "sluice"),
    ),
    Mutation(
        "aws",
        "Deployment processor: uses the store",
        put("ServiceAccount", "processor", "metadata/annotations", {}),
    ),
    Mutation(
        "aws",
        "ServiceAccount intake: no role",
        put(
            "ServiceAccount",
            "intake",
            "metadata/annotations",
            {"eks.amazonaws.com/role-arn": "arn:aws:iam::111122223333:role/sluice-intake"},
        ),
    ),
    Mutation(
        "aws",
        "do not trust KEDA",
        put("TriggerAuthentication", "sqs", "spec/podIdentity/identityOwner", "workload"),
        "keda",
    ),
)
