"""Prometheus, Alertmanager and Grafana in the cluster, told what to watch and whom to tell."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import pulumi
import pulumi_aws as aws
import pulumi_kubernetes as k8s

from components import grafana, iam, names, teardown, versions
from components.alert_rules import rules
from components.base import PlatformComponent
from components.operations_settings import Observability, Prometheus

CHART: Final = "kube-prometheus-stack"
REPOSITORY: Final = "https://prometheus-community.github.io/helm-charts"
DASHBOARD_LABEL: Final = "grafana_dashboard"
_STORAGE_CLASS: Final = "trainserve-encrypted"
_LOGIN: Final = "grafana-login"
_ALERTMANAGER, _GRAFANA = "alertmanager", "grafana"


@dataclass(frozen=True, kw_only=True)
class PrometheusArgs:
    """What a caller decides, what is scraped, and where alerts go."""

    stack: str
    region: str
    account_id: pulumi.Input[str]
    settings: Observability
    own: Prometheus
    models: Sequence[str]
    workload_namespace: str
    tls_to_pods: bool
    cluster_name: str
    cluster_arn: pulumi.Input[str]
    key_arn: pulumi.Input[str]
    topic_arn: pulumi.Input[str]
    nodes: Sequence[pulumi.Resource]
    """What pods and volumes on nodes wait for, the volumes' driver included."""

    workload: pulumi.Resource
    """The namespace of what is scraped."""


class PrometheusStack(PlatformComponent):
    """The chart, its volumes, its rights, and as code: what is scraped, alerts and a dashboard."""

    TYPE = "trainserve:observability:PrometheusStack"

    def __init__(self, name: str, args: PrometheusArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(name, opts)
        self._name = name
        self._args = args
        self._namespace = self._make_namespace()
        inside = [self._namespace, self._volumes(), self._login()]
        chart = self._chart([*inside, self._may_publish(), self._may_read_metrics()])
        self._as_code(chart)
        self.finish()

    def _make_namespace(self) -> k8s.core.v1.Namespace:
        # Its volumes go with it, while their driver is still there.
        return k8s.core.v1.Namespace(
            f"{self._name}-namespace",
            metadata={
                "name": names.MONITORING_NAMESPACE,
                "labels": {
                    "pod-security.kubernetes.io/enforce": "baseline",
                    "pod-security.kubernetes.io/warn": "restricted",
                },
                "annotations": {teardown.OWNS: "volumes"},
            },
            opts=self.child(depends_on=self._args.nodes),
        )

    def _volumes(self) -> pulumi.Resource:
        return k8s.storage.v1.StorageClass(
            f"{self._name}-volumes",
            metadata={"name": _STORAGE_CLASS},
            provisioner="ebs.csi.aws.com",
            parameters={"type": "gp3", "encrypted": "true", "kmsKeyId": self._args.key_arn},
            volume_binding_mode="WaitForFirstConsumer",
            reclaim_policy="Delete",
            allow_volume_expansion=True,
            opts=self.child(depends_on=self._args.nodes),
        )

    def _login(self) -> pulumi.Resource:
        return k8s.core.v1.Secret(
            f"{self._name}-login",
            metadata=self._metadata(_LOGIN),
            # Every run makes another; the first one stays.
            string_data={
                "admin-user": "admin",
                "admin-password": pulumi.Output.secret(secrets.token_urlsafe(24)),
            },
            opts=self.child(depends_on=[self._namespace], ignore_changes=["data", "stringData"]),
        )

    def _chart(self, after: Sequence[pulumi.Resource]) -> k8s.helm.v3.Release:
        return k8s.helm.v3.Release(
            f"{self._name}-chart",
            name="prometheus",
            chart=CHART,
            version=versions.PROMETHEUS_STACK,
            namespace=names.MONITORING_NAMESPACE,
            repository_opts={"repo": REPOSITORY},
            values=chart_values(self._args),
            atomic=True,
            timeout=900,
            opts=self.child(depends_on=after),
        )

    def _metadata(self, name: str, **labels: str) -> k8s.meta.v1.ObjectMetaArgsDict:
        return {"name": name, "namespace": names.MONITORING_NAMESPACE, "labels": labels}

    def _as_code(self, chart: k8s.helm.v3.Release) -> None:
        args = self._args
        k8s.apiextensions.CustomResource(
            f"{self._name}-models",
            api_version="monitoring.coreos.com/v1",
            kind="ServiceMonitor",
            metadata={"name": "models", "namespace": args.workload_namespace},
            spec={
                # The job is the model's name.
                "jobLabel": "app.kubernetes.io/name",
                "selector": {"matchLabels": {"app.kubernetes.io/component": names.CONTAINER}},
                "endpoints": [scraped(tls=args.tls_to_pods)],
            },
            opts=self.child(depends_on=[chart, args.workload]),
        )
        k8s.apiextensions.CustomResource(
            f"{self._name}-alerts",
            api_version="monitoring.coreos.com/v1",
            kind="PrometheusRule",
            metadata=self._metadata("trainserve"),
            spec={"groups": [{"name": "trainserve", "rules": rules(args.settings, args.workload_namespace)}]},
            opts=self.child(depends_on=[chart]),
        )
        board = grafana.dashboard(args.stack, args.region, args.cluster_name, list(args.models))
        k8s.core.v1.ConfigMap(
            f"{self._name}-dashboard",
            metadata=self._metadata("trainserve-dashboard", **{DASHBOARD_LABEL: "1"}),
            data={"trainserve.json": board},
            opts=self.child(depends_on=[self._namespace]),
        )

    def _may_publish(self) -> pulumi.Resource:
        return self._identity(
            _ALERTMANAGER,
            iam.Statement(sid="Tell", actions=["sns:Publish"], resources=[self._args.topic_arn]),
            iam.Statement(
                sid="Encrypt",
                actions=["kms:Decrypt", "kms:GenerateDataKey"],
                resources=[self._args.key_arn],
            ),
        )

    def _may_read_metrics(self) -> pulumi.Resource:
        return self._identity(
            _GRAFANA,
            iam.Statement(
                sid="ReadMetrics",
                actions=["cloudwatch:GetMetricData", "cloudwatch:ListMetrics"],
                resources=["*"],  # no resource level
            ),
        )

    def _identity(self, account: str, *statements: iam.Statement) -> pulumi.Resource:
        args = self._args
        role = aws.iam.Role(
            f"{self._name}-{account}",
            assume_role_policy=iam.assume_by_pods(args.account_id, args.cluster_arn),
            opts=self.child(),
        )
        policy = aws.iam.RolePolicy(
            f"{self._name}-{account}", role=role.id, policy=iam.document(*statements), opts=self.child()
        )
        return aws.eks.PodIdentityAssociation(
            f"{self._name}-{account}",
            cluster_name=args.cluster_name,
            namespace=names.MONITORING_NAMESPACE,
            service_account=account,
            role_arn=role.arn,
            opts=self.child(depends_on=[policy]),
        )


def scraped(*, tls: bool) -> dict[str, Any]:
    """A pod's metrics; its certificate is its own, so there is nobody to ask about it."""
    found: dict[str, Any] = {"port": "http", "path": "/metrics", "interval": "15s"}
    if tls:
        found |= {"scheme": "https", "tlsConfig": {"insecureSkipVerify": True}}
    return found


def chart_values(args: PrometheusArgs) -> dict[str, Any]:
    """What differs from the chart's own values, and why."""
    return {
        "fullnameOverride": "prometheus",
        # EKS shows nobody its control plane's parts, and kube-proxy's metrics listen on localhost only.
        **{
            part: {"enabled": False}
            for part in ("kubeControllerManager", "kubeScheduler", "kubeEtcd", "kubeProxy")
        },
        # Container Insights watches the nodes; without this one the namespace needs no host access.
        "nodeExporter": {"enabled": False},
        "prometheus": {"prometheusSpec": _prometheus(args.own)},
        "alertmanager": {
            "serviceAccount": {"name": _ALERTMANAGER},
            "config": _routes(args),
            "alertmanagerSpec": {"resources": _resources("50m", "64Mi", "128Mi")},
        },
        "grafana": _grafana(args.region),
        "kube-state-metrics": {"resources": _resources("50m", "64Mi", "256Mi")},
        "prometheusOperator": {"resources": _resources("50m", "128Mi", "256Mi")},
    }


def _prometheus(settings: Prometheus) -> dict[str, Any]:
    return {
        "retention": f"{settings.retention_days}d",
        # Whichever comes first: a full volume would stop it.
        "retentionSize": f"{settings.volume_gb * 85 // 100}GB",
        # All monitors and rules of the cluster, not only those with the release's label.
        "serviceMonitorSelectorNilUsesHelmValues": False,
        "podMonitorSelectorNilUsesHelmValues": False,
        "ruleSelectorNilUsesHelmValues": False,
        "resources": _resources("250m", "1Gi", "2Gi"),
        "storageSpec": {
            "volumeClaimTemplate": {
                "spec": {
                    "storageClassName": _STORAGE_CLASS,
                    "accessModes": ["ReadWriteOnce"],
                    "resources": {"requests": {"storage": f"{settings.volume_gb}Gi"}},
                }
            }
        },
    }


def _routes(args: PrometheusArgs) -> dict[str, Any]:
    """Everything to the alarms' topic but the heartbeat and what only explains other alerts."""
    receiver = {
        "topic_arn": args.topic_arn,
        "sigv4": {"region": args.region},
        "send_resolved": True,
        "subject": f"trainserve {args.stack}: {{{{ .CommonLabels.alertname }}}} {{{{ .Status }}}}",
    }
    return {
        "route": {
            "receiver": "topic",
            "group_by": ["alertname", "job"],
            "group_wait": "30s",
            "group_interval": "5m",
            "repeat_interval": "12h",
            "routes": [{"receiver": "nobody", "matchers": ['alertname=~"Watchdog|InfoInhibitor"']}],
        },
        "receivers": [{"name": "nobody"}, {"name": "topic", "sns_configs": [receiver]}],
    }


def _grafana(region: str) -> dict[str, Any]:
    return {
        "admin": {"existingSecret": _LOGIN, "userKey": "admin-user", "passwordKey": "admin-password"},
        "serviceAccount": {"name": _GRAFANA},
        "initChownData": {"enabled": False},  # runs as root, for a volume that is not there
        "sidecar": {"dashboards": {"enabled": True, "label": DASHBOARD_LABEL, "labelValue": "1"}},
        "resources": _resources("50m", "128Mi", "512Mi"),
        "additionalDataSources": [
            {
                "name": "CloudWatch",
                "type": "cloudwatch",
                "uid": grafana.CLOUDWATCH["uid"],
                "access": "proxy",
                "jsonData": {"authType": "default", "defaultRegion": region},
            }
        ],
    }


def _resources(cpu: str, memory: str, most_memory: str) -> dict[str, dict[str, str]]:
    return {"requests": {"cpu": cpu, "memory": memory}, "limits": {"memory": most_memory}}
