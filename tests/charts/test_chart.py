"""The Helm chart with five sets of values: against the schemas of Kubernetes, and against itself. Nobody here runs a
cluster or Helm: helm.go renders, and what the kubelet does with it is not tried.
"""

from __future__ import annotations

import json
import re
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.charts.rendering import ROOT, Object, Rendered, chosen, needs_go

pytestmark = needs_go
OF_OPERATORS = {
    "RayCluster": "ray.io/v1",
    "ServiceMonitor": "monitoring.coreos.com/v1", "PrometheusRule": "monitoring.coreos.com/v1",
}  # fmt: skip
"""Kinds whose schemas come with an operator, and are not at hand: checked by hand below."""


@pytest.mark.parametrize("version", ["1.27", "1.34"])
def test_kubernetes_knows_every_field(rendered: Rendered, version: str) -> None:
    names = [(one["kind"], one["metadata"]["name"]) for one in rendered.objects]
    assert len(names) == len(set(names))
    for one in rendered.objects:
        if one["kind"] in OF_OPERATORS:
            assert one["apiVersion"] == OF_OPERATORS[one["kind"]]
        else:
            kubernetes_validate.validate(one, version, strict=True)


def test_the_check_itself_finds_what_is_wrong(every_set: dict[str, Rendered]) -> None:
    one = yaml.safe_load(yaml.safe_dump(every_set["minimal"].one("StatefulSet", "-gateway")))
    one["spec"]["template"]["spec"]["containers"][0]["imagePullPolicyy"] = "Always"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(one, "1.30", strict=True)


def test_pods_may_do_no_more_than_they_must(rendered: Rendered) -> None:
    for name, template in [*rendered.workloads(), *rendered.ray_pods()]:
        pod = template["spec"]
        secured = pod["securityContext"]
        assert secured["runAsNonRoot"] is True, name
        assert secured["runAsUser"] > 0
        assert secured["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        assert not pod.keys() & {"hostNetwork", "hostPID", "hostIPC"}
        assert not any("hostPath" in volume for volume in pod["volumes"])
        for container in pod["containers"]:
            confined = dict(container["securityContext"])
            # Ray's images write into their home: charts/kuberay says what is asked of them
            assert confined.pop("readOnlyRootFilesystem", False) or container["name"].startswith("ray-"), name
            assert confined == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
            assert container["resources"]["limits"]["memory"]
            assert container["resources"]["requests"].keys() >= {"cpu", "memory"}


def test_images_are_pinned_and_name_no_registry_but_yours(rendered: Rendered) -> None:
    prefix = {"ha": "images.example.com/team/", "gpu": "images.example.com/"}.get(rendered.name, "")
    for name, template in [*rendered.workloads(), *rendered.ray_pods()]:
        for container in template["spec"]["containers"]:
            image = container["image"]
            assert image.startswith(prefix), name
            repository, _, tag = image.removeprefix(prefix).partition(":")
            assert tag not in ("", "latest")
            assert "." not in repository.partition("/")[0], "a host"


def test_no_secret_is_made_or_written_down(rendered: Rendered) -> None:
    assert not rendered.of("Secret")
    for one in rendered.of("ConfigMap"):
        for text in one["data"].values():
            for line in text.splitlines():
                key, found, value = line.partition(" = ")
                if found and re.search(r"token|secret|password|^key$", key) and not re.search(r"tls_key|_seconds", key):
                    assert value.startswith(('"file:', '"env:')), line
    for _, template in [*rendered.workloads(), *rendered.ray_pods()]:
        for container in template["spec"]["containers"]:
            for variable in container.get("env", []):
                if re.search(r"TOKEN|SECRET|PASSWORD|_KEY|_URL$", variable["name"]) and "value" in variable:
                    is_reference = variable["value"].startswith(("file:", "/run/secrets/"))
                    assert is_reference or re.fullmatch(r"[a-z+]+://\w*@?[\w.-]+:\d+/\w*", variable["value"])


def test_every_mount_has_its_volume_and_every_volume_its_object(rendered: Rendered) -> None:
    made = {(one["kind"], one["metadata"]["name"]) for one in rendered.objects}
    known = {"lustre", "company-ca"}  # what the values say is there
    for name, template in [*rendered.workloads(), *rendered.ray_pods()]:
        owners = [one["spec"] for one in rendered.of("StatefulSet") if one["metadata"]["name"] == name]
        claimed = {claim["metadata"]["name"] for one in owners for claim in one.get("volumeClaimTemplates", [])}
        volumes = {one["name"]: one for one in template["spec"]["volumes"]}
        mounts = [mount for one in template["spec"]["containers"] for mount in one["volumeMounts"]]
        assert {mount["name"] for mount in mounts} == volumes.keys() | claimed, name
        paths = [mount["mountPath"] for mount in mounts]
        assert len(paths) == len(set(paths))
        for volume in volumes.values():
            for kind, key, field in (
                ("ConfigMap", "configMap", "name"),
                ("PersistentVolumeClaim", "persistentVolumeClaim", "claimName"),
            ):
                if key in volume:
                    assert (kind, volume[key][field]) in made or volume[key][field] in known


def test_services_budgets_and_scalers_mean_pods_that_exist(rendered: Rendered) -> None:
    pods = [template for _, template in rendered.workloads()]
    workloads = {(one["kind"], one["metadata"]["name"]) for one in rendered.of("Deployment", "StatefulSet")}
    for service in rendered.of("Service"):
        (pod,) = chosen(pods, {"matchLabels": service["spec"]["selector"]})
        named = {port["name"] for one in pod["spec"]["containers"] for port in one.get("ports", [])}
        assert {port["targetPort"] for port in service["spec"].get("ports", [])} <= named
    for budget in rendered.of("PodDisruptionBudget"):
        assert len(chosen(pods, budget["spec"]["selector"])) == 1
    for scaler in rendered.of("HorizontalPodAutoscaler"):
        target = scaler["spec"]["scaleTargetRef"]
        assert (target["kind"], target["name"]) in workloads
        assert "replicas" not in rendered.one("StatefulSet", "-gateway")["spec"], "the scaler says how many"
        asked = [one["pods"]["metric"]["name"] for one in scaler["spec"]["metrics"] if one["type"] == "Pods"]
        assert [one for one in asked if f"`{one}`" in (ROOT / "docs/metrics.md").read_text()] == asked != []
    for one in rendered.of("Deployment", "StatefulSet"):
        assert chosen(pods, one["spec"]["selector"]) == [one["spec"]["template"]]
        if one["kind"] == "StatefulSet":
            assert one["spec"]["serviceName"] in {service["metadata"]["name"] for service in rendered.of("Service")}
    for ingress in rendered.of("Ingress"):
        for rule in ingress["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                told = path["backend"]["service"]
                service = rendered.one("Service", told["name"])
                assert told["port"]["name"] in {port["name"] for port in service["spec"]["ports"]}


def test_several_of_a_kind_survive_a_node_and_one_that_goes_drains(rendered: Rendered) -> None:
    budgets = rendered.of("PodDisruptionBudget")
    pods = [template for _, template in rendered.workloads()]
    for one in rendered.of("Deployment", "StatefulSet"):
        if one["spec"].get("replicas", 2) > 1:
            (mine,) = [b for b in budgets if chosen([one["spec"]["template"]], b["spec"]["selector"])]
            assert mine["spec"]["maxUnavailable"] == 1
            assert one["spec"]["template"]["spec"]["topologySpreadConstraints"]
    gateway = rendered.one("StatefulSet", "-gateway")["spec"]["template"]["spec"]
    waits = int(gateway["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1])
    text = rendered.one("ConfigMap", "-gateway")["data"]["config.toml"]
    (drains,) = re.findall(r"drain_timeout = (\d+)", text)
    assert gateway["terminationGracePeriodSeconds"] >= waits + int(drains) + 10
    assert len(pods) >= 3


def ports(pod: Object) -> set[Any]:
    """Numbers and names of the ports of a pod."""
    all_ports = [port for one in pod["spec"]["containers"] for port in one.get("ports", [])]
    return {port["containerPort"] for port in all_ports} | {port["name"] for port in all_ports}


def test_network_policies_mean_pods_and_ports_that_exist(rendered: Rendered) -> None:
    ours = [template for _, template in rendered.workloads()]
    clusters = {one["metadata"]["name"] for one in rendered.of("RayCluster")}
    for policy in rendered.of("NetworkPolicy"):
        spec, name = policy["spec"], policy["metadata"]["name"]
        ray = spec["podSelector"].get("matchLabels", {}).get("ray.io/cluster")
        meant = chosen(ours, spec["podSelector"])
        assert meant or ray in clusters, name
        for rule in spec.get("ingress", []):
            for port in rule.get("ports", []):
                # migrations are called by nobody, and share the policy of control
                assert ray or any(port["port"] in ports(pod) for pod in meant), name
        peers = [peer for rule in spec.get("ingress", []) for peer in rule.get("from", [])]
        peers += [peer for rule in spec.get("egress", []) for peer in rule.get("to", [])]
        for selector in [peer["podSelector"] for peer in peers if "podSelector" in peer]:
            labels = selector["matchLabels"]
            is_known = chosen(ours, selector) or labels.get("ray.io/cluster") in clusters or "k8s-app" in labels
            # a policy may name pods that these values do not make: the worker
            assert is_known or labels.get("app.kubernetes.io/component") == "trainer", name


def test_with_network_policies_whoever_must_reach_somebody_does(every_set: dict[str, Rendered]) -> None:
    locked = every_set["locked"]
    pods = dict(locked.workloads())
    policies = locked.of("NetworkPolicy")

    def reaches(source: str, target: str, port: int) -> bool:
        """As the network reads it: somebody's policy lets it out, and somebody's lets it in."""

        def allows(at: str, direction: str, key: str, other: str) -> bool:
            mine = [p["spec"] for p in policies if chosen([pods[at]], p["spec"]["podSelector"])]
            held = [spec for spec in mine if direction.capitalize() in spec["policyTypes"]]
            rules = [rule for spec in held for rule in spec.get(direction, [])]
            return not held or any(
                port in [told["port"] for told in rule.get("ports", [])]
                and any("podSelector" in peer and chosen([pods[other]], peer["podSelector"]) for peer in rule[key])
                for rule in rules
                if key in rule
            )

        return allows(source, "egress", "to", target) and allows(target, "ingress", "from", source)

    must = {
        ("console", "control", 8080), ("console", "gateway", 8000), ("gateway", "control", 8080),
        ("gateway", "redis", 6379), ("gateway", "engine-base", 8000), ("control", "postgresql", 5432),
        ("control", "milvus", 19530), ("control", "engine-base", 8000), ("migrate", "postgresql", 5432),
        ("trainer", "control", 8080), ("trainer", "engine-base", 8000),
    }  # fmt: skip
    names = [name.removeprefix("tunegate-") for name in pods]
    every_port = {port for _, _, port in must}
    may = {
        (a, b, port)
        for a in names for b in names for port in every_port
        if a != b and reaches(f"tunegate-{a}", f"tunegate-{b}", port)
    }  # fmt: skip
    assert may == must


def test_ray_is_the_cluster_of_charts_kuberay(every_set: dict[str, Rendered]) -> None:
    (cluster,) = every_set["gpu"].of("RayCluster")
    original = yaml.safe_load((ROOT / "charts/kuberay/raycluster.yaml").read_text())
    name = cluster["metadata"]["name"]
    (group,) = cluster["spec"]["workerGroupSpecs"]
    assert (group["replicas"], group["minReplicas"], group["maxReplicas"]) == (3, 3, 3)
    made, meant = cluster["spec"], original["spec"]
    assert made.keys() == meant.keys()
    assert made["headGroupSpec"]["rayStartParams"] == meant["headGroupSpec"]["rayStartParams"]
    assert group.keys() == meant["workerGroupSpecs"][0].keys()
    for _, template in every_set["gpu"].ray_pods():
        (container,) = template["spec"]["containers"]
        assert {"name": "shared", "mountPath": "/shared", "subPath": "trainer"} in container["volumeMounts"]
        assert container["resources"]["requests"] == container["resources"]["limits"]
    text = every_set["gpu"].one("ConfigMap", "-trainer")["data"]["config.toml"]
    assert f"http://{name}-head-svc:8265" in text


def test_monitors_find_services_with_metrics(every_set: dict[str, Rendered]) -> None:
    locked = every_set["locked"]
    for monitor in locked.of("ServiceMonitor"):
        services = locked.of("Service")
        found = chosen(services, monitor["spec"]["selector"])
        assert found, monitor["metadata"]["name"]
        for endpoint in monitor["spec"]["endpoints"]:
            assert endpoint["path"] == "/metrics"
            assert all(endpoint["port"] in [port["name"] for port in one["spec"]["ports"]] for one in found)
        assert monitor["metadata"]["labels"]["release"] == "prometheus"
    (endpoint,) = locked.one("ServiceMonitor", "-gateway")["spec"]["endpoints"]
    assert endpoint["scheme"] == "https"
    assert endpoint["tlsConfig"]["ca"]["configMap"] == {"name": "company-ca", "key": "ca.crt"}
    assert endpoint["authorization"]["credentials"] == {"name": "my-gateway", "key": "metrics-token"}
    (endpoint,) = locked.one("ServiceMonitor", "-control")["spec"]["endpoints"]
    assert endpoint["authorization"]["credentials"] == {"name": "my-control", "key": "metrics-token"}
    assert "metrics_token" in locked.one("ConfigMap", "-control")["data"]["config.toml"]
    jobs = {one["relabelings"][0]["replacement"] for m in locked.of("ServiceMonitor") for one in m["spec"]["endpoints"]}
    scraped = yaml.safe_load((ROOT / "charts/monitoring/prometheus.yaml").read_text())["scrape_configs"]
    assert jobs == {job["job_name"] for job in scraped}, "rules and dashboards name them"


def test_rules_and_dashboards_are_those_of_charts_monitoring(every_set: dict[str, Rendered]) -> None:
    locked = every_set["locked"]
    (rules,) = locked.of("PrometheusRule")
    meant = (ROOT / "charts/monitoring/rules.yaml").read_text()
    assert rules["spec"] == yaml.safe_load(
        meant.replace("https://docs.example.com/tunegate", "https://wiki.example.com/llm")
    )
    assert rules["metadata"]["labels"]["release"] == "prometheus"
    dashboards = locked.one("ConfigMap", "-dashboards")
    assert dashboards["metadata"]["labels"]["grafana_dashboard"] == "1"
    files = {f"tunegate-{path.name}": path for path in (ROOT / "charts/monitoring/dashboards").glob("*.json")}
    assert dashboards["data"].keys() == files.keys()
    for name, path in files.items():
        assert json.loads(dashboards["data"][name]) == json.loads(path.read_text())
    assert not every_set["minimal"].of("PrometheusRule", "ServiceMonitor")
