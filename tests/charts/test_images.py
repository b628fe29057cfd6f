"""The Dockerfiles and compose.yaml: read by Docker's parser and by Compose, and compared with what the programs read.
No image is built and no container started without BUILD_IMAGES=1 and a Docker daemon, which the last test wants.
"""

from __future__ import annotations

import base64
import fnmatch
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import dockerfile
import pytest
import yaml

from control import settings as control_settings
from control.cli import _COMMANDS
from gateway.snapshot.file import load as load_gateway
from tests.charts.rendering import CHART, ROOT
from tests.charts.test_chart_settings import VARIABLES, check_with_nginx
from tests.fakes.nginx import needs_nginx

DOCKER = ROOT / "charts/docker"
IMAGES = sorted(DOCKER.glob("*.Dockerfile"))
COMPOSE = shutil.which("docker-compose")
Stage = list[dockerfile.Command]


def stages(path: Path) -> tuple[dict[str, str], list[Stage]]:
    """Arguments before the first stage, and the stages."""
    arguments: dict[str, str] = {}
    found: list[Stage] = []
    for command in dockerfile.parse_file(str(path)):
        if command.cmd == "FROM":
            found.append([command])
        elif found:
            found[-1].append(command)
        else:
            assert command.cmd == "ARG"
            name, _, value = command.value[0].partition("=")
            arguments[name] = value
    return arguments, found


def of(stage: Stage, cmd: str) -> list[dockerfile.Command]:
    return [command for command in stage if command.cmd == cmd]


@pytest.mark.parametrize("path", IMAGES, ids=lambda path: path.stem)
def test_an_image_is_pinned_built_in_stages_and_runs_as_nobody_special(path: Path) -> None:
    arguments, every = stages(path)
    names = [stage[0].value[2] for stage in every if len(stage[0].value) == 3]
    for stage in every:
        base = arguments[stage[0].value[0].strip("${}")]  # can be given by digest: --build-arg
        repository, _, tag = base.partition(":")
        assert "/" not in repository
        assert re.search(r"\d", tag), "pinned"
    assert len(every) >= 2
    last = every[-1]
    (user,) = of(last, "USER")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user.value[0]), "a number: Kubernetes sees that it is not 0"
    after = [command.cmd for command in last[last.index(user) + 1 :]]
    assert not {"RUN", "COPY", "ADD"} & set(after)
    assert len(of(last, "HEALTHCHECK")) == 1
    for command in [one for stage in every for one in stage]:
        assert command.cmd != "ADD"
        if command.cmd == "COPY" and command.flags:
            assert command.flags[0].removeprefix("--from=") in names
        if command.cmd == "RUN":
            assert not subprocess.run(["sh", "-n", "-c", command.value[0]], check=False, timeout=10).returncode
            for line in re.findall(r"pip install[^&]*", command.value[0]):
                assert "--require-hashes" in line or "/wheels/*.whl" in line
            assert not re.search(r"npm (i|install)\b|apt-get|curl ", command.value[0])


def ignored(path: str) -> bool:
    """Whether .dockerignore keeps a path from the builder; the last line that fits decides, as in Docker."""
    out = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if line and not line.startswith("#"):
            pattern = line.removeprefix("!").removeprefix("**/")
            parts = Path(path).parts
            above = ["/".join(parts[: end + 1]) for end in range(len(parts))]
            if any(fnmatch.fnmatchcase(one, pattern) for one in above) or ("**/" in line and pattern in parts):
                out = not line.startswith("!")
    return out


@pytest.mark.parametrize("path", IMAGES, ids=lambda path: path.stem)
def test_what_an_image_copies_is_there_and_is_sent_to_the_builder(path: Path) -> None:
    for command in [one for stage in stages(path)[1] for one in of(stage, "COPY") if not one.flags]:
        for source in command.value[:-1]:
            assert (ROOT / source).exists(), source
            assert not ignored(source), source


def test_the_builder_gets_no_secret_and_no_waste() -> None:
    kept = (
        "var/config.toml", "var/control/secret.key", ".git/config", ".venv/bin/python", "config.toml",
        "docs/openapi.json", "tests/__init__.py", "charts/docker/secrets/key", "console/node_modules/vue/package.json",
        "gateway/__pycache__/x.pyc", "charts/tunegate/values.yaml",
    )  # fmt: skip
    assert [path for path in kept if not ignored(path)] == []
    assert not ignored("gateway/app.py")


@pytest.mark.parametrize("path", IMAGES, ids=lambda path: path.stem)
def test_an_image_starts_what_there_is_at_the_port_that_it_names(path: Path) -> None:
    last = stages(path)[1][-1]
    (entry,) = of(last, "ENTRYPOINT")
    assert entry.json
    for variable in [one for command in of(last, "ENV") for one in command.value[::3]]:
        assert not variable.startswith("TUNEGATE_") or variable in VARIABLES
    if path.stem == "console":
        assert entry.value == ("nginx", "-g", "daemon off;")
        assert [one.value for one in of(last, "STOPSIGNAL")] == [("SIGQUIT",)], "finish what was begun"
        return
    (command,) = of(last, "CMD")
    assert entry.value == ("tunegate",)
    assert command.value == (path.stem, "--config", "/etc/tunegate/config.toml")
    assert (path.stem,) in _COMMANDS
    locks = re.findall(r"requirements/(\w+)\.lock", path.read_text())
    assert set(locks) == {path.stem}
    port = {"gateway": "8000", "control": "8080"}.get(path.stem)
    assert [one.value for one in of(last, "EXPOSE")] == ([(port,)] if port else [])
    assert port is None or f"http://127.0.0.1:{port}/healthz" in of(last, "HEALTHCHECK")[0].original


def test_the_wheel_of_the_images_has_every_module(tmp_path: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "gateway", "control", "trainer"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    source = tmp_path / "src"
    for name in [*listed.stdout.split(), "pyproject.toml", "README.md", "LICENSE"]:
        if (ROOT / name).exists():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        tmp_path,
        source,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    within = set(zipfile.ZipFile(wheel).namelist())
    only_for_developers = {"control/migrations/script.py.mako"}
    assert set(listed.stdout.split()) - within == only_for_developers


# ---- Compose ----------------------------------------------------------------------------------------------------


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    """What secrets.sh makes."""
    subprocess.run(["sh", DOCKER / "secrets.sh", tmp_path / "secrets"], check=True, timeout=30)
    return tmp_path / "secrets"


def told() -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    return read


def source_of(service: dict[str, Any], target: str) -> Path:
    """The file of ours that a container has at a path."""
    (found,) = [one.split(":")[0] for one in service["volumes"] if one.split(":")[1] == target]
    return DOCKER / found


@pytest.mark.skipif(
    COMPOSE is None and os.environ.get("REQUIRE_CHARTS") != "1",
    reason="COMPOSE HAS NOT READ compose.yaml: docker-compose is not installed (requirements/install-servers.sh)",
)
def test_compose_takes_the_file_and_refuses_a_wrong_one(tmp_path: Path) -> None:
    def config(path: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(COMPOSE), "-f", path, "config"], capture_output=True, text=True, check=False, timeout=60
        )

    done = config(DOCKER / "compose.yaml")
    assert done.returncode == 0, done.stderr
    assert set(yaml.safe_load(done.stdout)["services"]) == set(told()["services"])
    wrong = tmp_path / "compose.yaml"
    wrong.write_text(json.dumps(told() | {"services": {"gateway": {"image": "x", "red_only": True}}}))
    assert "red_only" in config(wrong).stderr


def test_compose_hangs_together() -> None:
    read = told()
    for name, service in read["services"].items():
        assert set(service["networks"]) <= read["networks"].keys(), name
        assert set(service.get("secrets", [])) <= read["secrets"].keys()
        for other in service.get("depends_on", {}):
            image_checks = read["services"][other]["image"].startswith("tunegate/")
            assert image_checks or "healthcheck" in read["services"][other]
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source in read["volumes"] or (DOCKER / source).exists()
        assert re.search(r":v?\d", service["image"]), "pinned"
        assert "no-new-privileges:true" in service["security_opt"]
        assert service.get("read_only", False) or name == "milvus"
        if "build" in service:
            assert (ROOT / service["build"]["dockerfile"]).exists()
            assert (DOCKER / service["build"]["context"]).resolve() == ROOT
        for variable in service.get("environment", {}):
            assert not variable.startswith("TUNEGATE_")
    for name in ("control", "gateway"):
        shared = set(read["services"][name]["networks"]) & set(read["services"]["nginx"]["networks"])
        assert shared == {"front"}, "whose addresses control trusts"
    published = {name: one["ports"] for name, one in read["services"].items() if "ports" in one}
    assert published.pop("nginx") == ["443:8443"]
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)


def test_the_planes_read_their_files_of_compose(secrets: Path) -> None:
    services = told()["services"]
    gateway, snapshot = load_gateway(source_of(services["gateway"], "/etc/tunegate/config.toml"))
    control = control_settings.load(source_of(services["control"], "/etc/tunegate/config.toml"))
    assert snapshot.endpoints == ()
    assert gateway.control.url == f"http://control:{control.console.port}"
    assert gateway.gateway.cors_origins == (control.console.public_url,)
    for path, name in (
        (gateway.control.token, "gateway"), (control.database.url, "control"), (control.secrets.key, "control"),
    ):  # fmt: skip
        assert path is not None
        assert path.removeprefix("file:/run/secrets/") in services[name]["secrets"]
    for name, folder in (("gateway", gateway.gateway.data_dir), ("control", control.console.data_dir)):
        assert f"{name}:{folder}" in services[name]["volumes"]
    assert services["gateway"]["stop_grace_period"] == "60s"
    assert gateway.gateway.drain_timeout + 10 <= 60
    network = told()["networks"]["front"]["ipam"]["config"][0]["subnet"]
    assert [str(one) for one in control.console.trusted_proxies] == [network]
    assert control.knowledge.milvus_uri == "http://milvus:19530"
    password = (secrets / "postgresql-password").read_text()
    assert (
        secrets / "database-url"
    ).read_text() == f"postgresql+asyncpg://tunegate:{password}@postgresql:5432/tunegate"
    assert len(base64.urlsafe_b64decode((secrets / "key").read_text())) == 32


def test_secrets_are_made_once_for_their_owner_and_all_but_one(secrets: Path) -> None:
    before = {path.name: path.read_text() for path in secrets.iterdir()}
    assert {*before, "service-token"} == told()["secrets"].keys(), "that one is control's to make"
    assert secrets.stat().st_mode & 0o777 == 0o700
    assert len(set(before.values())) == len(before)
    (secrets / "key").unlink()  # as after a kill
    (secrets / "tls.crt").unlink()
    subprocess.run(["sh", DOCKER / "secrets.sh", secrets], check=True, timeout=30)
    after = {path.name: path.read_text() for path in secrets.iterdir()}
    assert {name for name in before if before[name] != after[name]} == {"key", "tls.crt", "tls.key"}
    checked = subprocess.run(["git", "check-ignore", "-q", DOCKER / "secrets/key"], cwd=ROOT, check=False)
    assert checked.returncode in (0, 128), "never committed"


@needs_nginx
def test_nginx_takes_the_site_of_compose(tmp_path: Path) -> None:
    site = subprocess.run(
        ["sed", "-f", DOCKER / "site.sed", ROOT / "charts/nginx/tunegate.conf"],
        capture_output=True, text=True, check=True, timeout=10,
    ).stdout  # fmt: skip
    lines = [line for line in site.splitlines() if not line.startswith("#")]
    site = "\n".join(lines)
    assert "example.com" not in site
    for line in (
        "listen 8443 ssl;",
        "server control:8080;",
        "server gateway:8000 fail_timeout=1s;",
        "server_name llm.localhost;",
    ):
        assert line in site
    secrets = set(re.findall(r"/run/secrets/([\w.]+)", site))
    assert secrets == set(told()["services"]["nginx"]["secrets"])
    site = site.replace("control:", "127.0.0.1:").replace("gateway:", "127.0.0.1:")
    check_with_nginx(site.replace("/run/secrets/", "/etc/tunegate/tls/"), tmp_path)


def test_prometheus_asks_gateway_and_control_and_has_the_rules(tmp_path: Path) -> None:
    service = told()["services"]["prometheus"]
    path = source_of(service, "/etc/prometheus/prometheus.yml")
    jobs = {job["job_name"]: job for job in yaml.safe_load(path.read_text())["scrape_configs"]}
    assert {name: job["static_configs"][0]["targets"] for name, job in jobs.items()} == {
        "tunegate-gateway": ["gateway:8000"], "tunegate-control": ["control:8080"],
    }  # fmt: skip
    token = jobs["tunegate-control"]["authorization"]["credentials_file"].removeprefix("/run/secrets/")
    assert token in service["secrets"]
    rules = source_of(service, "/etc/prometheus/rules.yaml")
    assert rules.resolve() == ROOT / "charts/monitoring/rules.yaml"
    shown = source_of(told()["services"]["grafana"], "/etc/tunegate/dashboards")
    assert len(list(shown.glob("*.json"))) == 6
    sources = yaml.safe_load(
        source_of(told()["services"]["grafana"], "/etc/grafana/provisioning/datasources/tunegate.yaml").read_text()
    )
    assert sources["datasources"][0]["url"] == "http://prometheus:9090"
    if promtool := shutil.which("promtool"):
        shutil.copy(rules, tmp_path)
        text = path.read_text().replace("/run/secrets/metrics-token", str(tmp_path / "token"))
        (tmp_path / "token").touch()
        (tmp_path / "prometheus.yml").write_text(text)
        command = [promtool, "check", "config", tmp_path / "prometheus.yml"]
        subprocess.run(command, check=True, timeout=30, capture_output=True)


def test_what_chart_and_compose_share_is_there_once() -> None:
    assert (CHART / "files/embedEtcd.yaml").resolve() == DOCKER / "embedEtcd.yaml"
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    for name in ("postgresql", "redis", "milvus"):
        image = values[name]["image"]
        assert told()["services"][name]["image"] == f"{image['repository']}:{image['tag']}"


@pytest.mark.skipif(
    os.environ.get("BUILD_IMAGES") != "1",
    reason="NO IMAGE WAS BUILT AND NO CONTAINER STARTED: set BUILD_IMAGES=1 where a Docker daemon runs",
)
@pytest.mark.parametrize("path", IMAGES, ids=lambda path: path.stem)
@pytest.mark.timeout(1200)
def test_docker_builds_the_image(path: Path) -> None:
    done = subprocess.run(
        ["docker", "build", "-q", "-f", path, ROOT], capture_output=True, text=True, check=False, timeout=1190
    )
    assert done.returncode == 0, done.stderr
