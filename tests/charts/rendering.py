"""The chart with each of the value sets, rendered by helm.go: without Helm, which no package here has."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts/tunegate"
SETS = sorted((Path(__file__).parent / "values").glob("*.yaml"))
GOPATH = Path("/usr/share/gocode")
Object = dict[str, Any]

INSTALLED = all(
    (GOPATH / "src" / package).is_dir() for package in ("github.com/Masterminds/sprig", "sigs.k8s.io/yaml")
) and any((Path(folder) / "go").exists() for folder in os.get_exec_path())
needs_go = pytest.mark.skipif(
    not INSTALLED and os.environ.get("REQUIRE_CHARTS") != "1",
    reason="THE HELM CHART IS NOT CHECKED: Go and its libraries sprig and yaml are not installed "
    "(requirements/install-servers.sh does, as root on Debian)",
)


@dataclass(frozen=True)
class Rendered:
    """What one set of values makes."""

    name: str
    texts: dict[str, str]

    @cached_property
    def objects(self) -> list[Object]:
        """All of it but the notes."""
        texts = [text for name, text in self.texts.items() if not name.endswith(".txt")]
        return [one for text in texts for one in yaml.safe_load_all(text) if one]

    def of(self, *kinds: str) -> list[Object]:
        """Those of some kinds."""
        return [one for one in self.objects if one["kind"] in kinds]

    def one(self, kind: str, end: str) -> Object:
        """The one of this kind whose name ends so."""
        (found,) = [one for one in self.of(kind) if one["metadata"]["name"].endswith(end)]
        return found

    def workloads(self) -> Iterator[tuple[str, Object]]:
        """Name of a workload of ours, and the template of its pods."""
        for one in self.of("Deployment", "StatefulSet", "Job"):
            yield one["metadata"]["name"], one["spec"]["template"]

    def ray_pods(self) -> Iterator[tuple[str, Object]]:
        """Head and workers of the Ray cluster, whose pods the operator makes."""
        for cluster in self.of("RayCluster"):
            for group in (cluster["spec"]["headGroupSpec"], *cluster["spec"]["workerGroupSpecs"]):
                yield cluster["metadata"]["name"], group["template"]


def chosen(pods: list[Object], selector: Object) -> list[Object]:
    """Pods that a label selector means."""
    wanted: dict[str, str] = selector.get("matchLabels", {})
    some = {one["key"]: one["values"] for one in selector.get("matchExpressions", [])}

    def fits(pod: Object) -> bool:
        labels = pod["metadata"]["labels"]
        return wanted.items() <= labels.items() and all(labels.get(key) in values for key, values in some.items())

    return [pod for pod in pods if fits(pod)]


def renderer(folder: Path) -> Path:
    """Build helm.go; the program."""
    cache = Path(tempfile.gettempdir()) / f"tunegate-go-{os.getuid()}"
    program = folder / "helm"
    subprocess.run(
        ["go", "build", "-o", program, Path(__file__).parent / "helm.go"], check=True, timeout=100,
        env=os.environ | {"GO111MODULE": "off", "GOPATH": str(GOPATH), "GOCACHE": str(cache), "GOFLAGS": ""},
    )  # fmt: skip
    return program


def render(program: Path, *files: Path) -> dict[str, dict[str, str] | str]:
    """File of values → what it makes by template, or why it is refused."""
    done = subprocess.run(
        [program, CHART, "tunegate-test", *files], capture_output=True, text=True, check=True, timeout=60
    )
    return {Path(name).stem: made for name, made in json.loads(done.stdout).items()}
