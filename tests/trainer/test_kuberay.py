"""The manifests of charts/kuberay: by their structure, since the schema of KubeRay's resources is not at hand, and
against what the runner for Ray needs.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from trainer.settings import Settings, load

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts/kuberay"


def documents() -> list[dict[str, Any]]:
    told = yaml.safe_load((CHART / "kustomization.yaml").read_text())
    files = sorted(path.name for path in CHART.glob("*.yaml") if path.name != "kustomization.yaml")
    assert sorted(told["resources"]) == files, "kustomization.yaml names every file"
    return [one for name in files for one in yaml.safe_load_all((CHART / name).read_text())]


def of_kind(kind: str) -> list[dict[str, Any]]:
    return [one for one in documents() if one["kind"] == kind]


@pytest.fixture
def cluster() -> dict[str, Any]:
    (found,) = of_kind("RayCluster")
    return found


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """What README.md tells a worker."""
    (text,) = re.findall(r"```toml\n(.*?)```", (CHART / "README.md").read_text(), re.DOTALL)
    (tmp_path / "config.toml").write_text(text)
    return load(tmp_path / "config.toml")


def groups(cluster: dict[str, Any]) -> list[dict[str, Any]]:
    return [cluster["spec"]["headGroupSpec"], *cluster["spec"]["workerGroupSpecs"]]


def pods(cluster: dict[str, Any]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Pod and its one container."""
    for group in groups(cluster):
        pod = group["template"]["spec"]
        (container,) = pod["containers"]
        yield pod, container


def test_the_cluster_has_the_shape_that_the_operator_reads(cluster: dict[str, Any]) -> None:
    assert cluster["apiVersion"] == "ray.io/v1"
    spec = cluster["spec"]
    assert spec.keys() == {"rayVersion", "enableInTreeAutoscaling", "headGroupSpec", "workerGroupSpecs"}
    assert spec["headGroupSpec"].keys() == {"serviceType", "enableIngress", "rayStartParams", "template"}
    for group in spec["workerGroupSpecs"]:
        assert group.keys() == {
            "groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template",
        }  # fmt: skip
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    for group in groups(cluster):
        assert all(isinstance(value, str) for value in group["rayStartParams"].values()), "options are texts"
    for _, container in pods(cluster):
        assert container["image"].startswith(f"rayproject/ray:{spec['rayVersion']}-py311")
    assert f"ray[default]=={spec['rayVersion']}" in (ROOT / "requirements/ray.in").read_text(), "what the tests run on"


def test_no_pod_may_do_more_than_it_must(cluster: dict[str, Any]) -> None:
    for pod, container in pods(cluster):
        assert pod["automountServiceAccountToken"] is False
        secured = pod["securityContext"]
        assert (secured["runAsNonRoot"], secured["seccompProfile"]) == (True, {"type": "RuntimeDefault"})
        assert secured["runAsUser"] > 0
        assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        assert container["resources"]["requests"] == container["resources"]["limits"]
        assert not pod.keys() & {"hostNetwork", "hostPID", "hostIPC"}
        assert not any("hostPath" in volume for volume in pod["volumes"])
    (namespace,) = of_kind("Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_nobody_but_the_worker_reaches_the_head_and_that_with_a_token(cluster: dict[str, Any]) -> None:
    assert cluster["spec"]["headGroupSpec"]["serviceType"] == "ClusterIP"
    assert cluster["spec"]["headGroupSpec"]["enableIngress"] is False
    for _, container in pods(cluster):
        told = {one["name"]: one.get("value") or one["valueFrom"] for one in container["env"]}
        assert told["RAY_AUTH_MODE"] == "token"
        assert told["RAY_AUTH_TOKEN"] == {"secretKeyRef": {"name": "ray-token", "key": "auth_token"}}
        assert told["RAY_process_group_cleanup_enabled"] == "true"
    assert not of_kind("Secret"), "a token is no part of a repository"
    assert "create secret generic ray-token --from-literal=auth_token=" in (CHART / "README.md").read_text()
    among, to_head = of_kind("NetworkPolicy")
    nodes = {"podSelector": {"matchLabels": {"ray.io/cluster": cluster["metadata"]["name"]}}}
    assert among["spec"]["podSelector"] == nodes["podSelector"]
    assert set(among["spec"]["policyTypes"]) == {"Ingress", "Egress"}
    assert [rule["from"] for rule in among["spec"]["ingress"]] == [[nodes]]
    names = {"protocol": "UDP", "port": 53}
    assert [rule["to"] for rule in among["spec"]["egress"] if names not in rule.get("ports", [])] == [[nodes]]
    assert to_head["spec"]["podSelector"]["matchLabels"]["ray.io/node-type"] == "head"
    (rule,) = to_head["spec"]["ingress"]
    assert rule["ports"] == [{"protocol": "TCP", "port": 8265}]
    (peer,) = rule["from"]
    for key, value in peer["podSelector"]["matchLabels"].items():
        assert f"`{key}: {value}`" in (CHART / "README.md").read_text(), "the worker is told of its labels"


def test_what_the_worker_is_told_is_what_the_cluster_has(cluster: dict[str, Any], settings: Settings) -> None:
    worker, name = settings.worker, cluster["metadata"]
    assert worker.runner == "ray"
    assert worker.ray.address == f"http://{name['name']}-head-svc.{name['namespace']}.svc:8265"
    assert worker.ray.token.startswith("file:")
    (claim,) = of_kind("PersistentVolumeClaim")
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    for pod, container in pods(cluster):
        mounted = {one["name"]: Path(one["mountPath"]) for one in container["volumeMounts"]}
        volumes = {one["name"]: one for one in pod["volumes"]}
        assert mounted.keys() == volumes.keys()
        (shared,) = [one for one in volumes.values() if "persistentVolumeClaim" in one]
        assert shared["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
        for path in (worker.data_dir, worker.python, worker.llamafactory_python):
            assert path.is_relative_to(mounted[shared["name"]]), "one path on the worker and on all nodes"
    assert {one["metadata"].get("namespace", name["namespace"]) for one in documents()} == {name["namespace"]}


def test_the_head_computes_nothing_and_the_others_have_gpus(cluster: dict[str, Any]) -> None:
    head, *others = groups(cluster)
    assert head["rayStartParams"]["num-cpus"] == "0"
    assert others
    for group in others:
        (container,) = group["template"]["spec"]["containers"]
        assert int(container["resources"]["limits"]["nvidia.com/gpu"]) >= 1
        assert "num-gpus" not in group["rayStartParams"], "Ray takes it from the limits"


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_kubectl_puts_them_together() -> None:
    done = subprocess.run(["kubectl", "kustomize", str(CHART)], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    built = list(yaml.safe_load_all(done.stdout))
    assert sorted(one["kind"] for one in built) == sorted(one["kind"] for one in documents())
    (made,) = [one for one in built if one["kind"] == "RayCluster"]
    assert made == of_kind("RayCluster")[0], "anchors and all"
