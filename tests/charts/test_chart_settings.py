"""What the chart tells the programs is what they read: settings, variables, paths, ports, commands, nginx."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import trustme
from sqlalchemy import make_url

from control import api as control_api, settings as control_settings
from control.cli import _COMMANDS
from gateway.settings import Settings as GatewaySettings
from gateway.snapshot.file import load as load_gateway
from tests.charts.rendering import CHART, ROOT, Object, Rendered, needs_go
from tests.fakes.nginx import NGINX, needs_nginx
from trainer.settings import load as load_trainer

pytestmark = needs_go
VARIABLES = {
    f"TUNEGATE_{table}_{key}".upper()
    for settings in (GatewaySettings, control_settings.Settings)
    for table, field in settings.model_fields.items()
    for key in field.annotation.model_fields  # type: ignore[union-attr]
}


def configuration(rendered: Rendered, plane: str, folder: Path) -> Path:
    """The file that a plane reads."""
    path = folder / f"{plane}.toml"
    path.write_text(rendered.one("ConfigMap", f"-{plane}")["data"]["config.toml"])
    return path


def container(template: Object) -> Object:
    (one,) = template["spec"]["containers"]
    found: Object = one
    return found


def mounted(template: Object, path: str | Path) -> bool:
    """Whether a path is on a volume of the pod."""
    return any(Path(path).is_relative_to(one["mountPath"]) for one in container(template)["volumeMounts"])


def references(settings: Any) -> list[str]:
    """Paths of `file:` in dumped settings."""
    if isinstance(settings, dict):
        return [path for value in settings.values() for path in references(value)]
    return [settings.removeprefix("file:")] if isinstance(settings, str) and settings.startswith("file:") else []


def test_gateways_read_their_file(rendered: Rendered, tmp_path: Path) -> None:
    settings, snapshot = load_gateway(configuration(rendered, "gateway", tmp_path))
    assert snapshot.endpoints == ()
    template = dict(rendered.workloads())["tunegate-gateway"]
    service = rendered.one("Service", "-control")
    assert settings.control.url == f"http://tunegate-control:{service['spec']['ports'][0]['port']}"
    assert container(template)["ports"] == [{"name": "http", "containerPort": settings.gateway.port}]
    assert not settings.gateway.is_loopback
    paths = [settings.gateway.data_dir, settings.gateway.responses_dir, settings.gateway.objects_dir]
    paths += [settings.gateway.tls_cert, settings.gateway.tls_key]
    for path in [*filter(None, paths), *references(settings.model_dump())]:
        assert mounted(template, path), path
    scheme = "HTTPS" if settings.gateway.tls_cert else "HTTP"
    assert container(template)["readinessProbe"]["httpGet"]["scheme"] == scheme
    assert rendered.name != "ha" or settings.gateway.workers == 4


def test_control_reads_its_file(rendered: Rendered, tmp_path: Path) -> None:
    settings = control_settings.load(configuration(rendered, "control", tmp_path))
    template = dict(rendered.workloads())["tunegate-control"]
    assert container(template)["ports"] == [{"name": "http", "containerPort": settings.console.port}]
    for path in [settings.console.data_dir, *references(settings.model_dump())]:
        assert mounted(template, path), path
    if settings.oidc.ca_file:
        assert mounted(template, settings.oidc.ca_file)
    assert (settings.oidc.ca_file is not None) == (rendered.name == "locked")
    if rendered.name in ("bundled", "locked"):
        for url, port in ((settings.database.url, 5432), (settings.knowledge.milvus_uri, 19530)):
            host = re.split(r"[@/]+", url.removesuffix("/tunegate"))[-1]
            assert host in {f"tunegate-{name}:{port}" for name in ("postgresql", "milvus")}
            assert rendered.one("Service", host.partition(":")[0])["spec"]["ports"][0]["port"] == port
    assert bool(settings.database.url) == (rendered.name != "minimal")
    assert settings.console.gateway_url.startswith("https://llm.")


def test_the_driver_finds_the_password_of_the_bundled_database(every_set: dict[str, Rendered], tmp_path: Path) -> None:
    for template in (pod for name, pod in every_set["bundled"].workloads() if name.endswith(("-control", "-migrate"))):
        (found,) = [one for one in container(template)["env"] if one["name"] == "PGPASSWORD"]
        server = dict(every_set["bundled"].workloads())["tunegate-postgresql"]
        (secret,) = [one["secret"] for one in server["spec"]["volumes"] if "secret" in one]
        assert found["valueFrom"]["secretKeyRef"] == {"name": secret["secretName"], "key": "password"}
        assert {"name": "POSTGRES_PASSWORD_FILE", "value": "/run/secrets/postgresql/password"} in container(server)[
            "env"
        ]
    settings = control_settings.load(configuration(every_set["bundled"], "control", tmp_path))
    url = make_url(settings.database_url)
    _, arguments = url.get_dialect()().create_connect_args(url)
    assert "password" not in arguments, "then asyncpg looks at PGPASSWORD"
    assert (arguments["user"], arguments["database"]) == ("tunegate", "tunegate")


def test_the_worker_reads_its_file(every_set: dict[str, Rendered], tmp_path: Path) -> None:
    for name, gpus in (("gpu", None), ("locked", "2")):
        settings = load_trainer(configuration(every_set[name], "trainer", tmp_path))
        template = dict(every_set[name].workloads())["tunegate-trainer"]
        assert settings.worker.runner == ("ray" if name == "gpu" else "local")
        assert container(template)["resources"]["limits"].get("nvidia.com/gpu") == gpus
        worker = settings.worker
        for path in [worker.data_dir, worker.python, *references(settings.model_dump())]:
            assert mounted(template, path), path
        for engine in settings.external:
            pod = dict(every_set[name].workloads())[f"tunegate-engine-{engine.name}"]
            told = container(pod)["args"]
            assert f"--model={engine.model}" in told
            assert f"--max-lora-rank={engine.max_lora_rank}" in told
            assert f"--max-cpu-loras={engine.published_adapters}" in told
            assert f"--port={engine.url.rpartition(':')[2]}" in told
            assert engine.url == f"http://tunegate-engine-{engine.name}:8000"
            assert mounted(pod, worker.data_dir), "where the worker puts adapters, under the same path"
    assert settings.worker.interval == 2


def test_every_variable_of_ours_is_a_setting(rendered: Rendered) -> None:
    for _, template in rendered.workloads():
        for variable in container(template).get("env", []):
            assert not variable["name"].startswith("TUNEGATE_") or variable["name"] in VARIABLES


def test_probes_ask_for_paths_that_exist(rendered: Rendered) -> None:
    routes = (ROOT / "gateway/api/routes.py").read_text()
    paths = {
        "gateway": set(re.findall(r'"GET", "(/\w+)", "public"', routes)),
        "control": {route.path for route in control_api.router.routes if hasattr(route, "path")},
        "milvus": {"/healthz"},
        "vllm": {"/health"},
    }
    for name, template in rendered.workloads():
        one = container(template)
        probes = [one[kind] for kind in ("startupProbe", "readinessProbe", "livenessProbe") if kind in one]
        assert probes or one["name"] in ("migrate", "trainer"), name
        for probe in probes:
            if "httpGet" in probe:
                assert probe["httpGet"]["path"] in paths[one["name"]], name


def test_arguments_are_commands(rendered: Rendered) -> None:
    for _, template in rendered.workloads():
        one = container(template)
        if one["image"].partition(":")[0].split("/")[-1] in ("gateway", "control", "trainer"):
            assert tuple(one["args"][:1]) in _COMMANDS
            assert not one["args"][1:] or (one["args"][1], one["args"][2]) == ("--config", "/etc/tunegate/config.toml")


def test_the_site_is_that_of_charts_nginx() -> None:
    assert (CHART / "files/tunegate.conf").resolve() == ROOT / "charts/nginx/tunegate.conf"
    assert (CHART / "files/raycluster.yaml").resolve() == ROOT / "charts/kuberay/raycluster.yaml"


@needs_nginx
def test_nginx_takes_the_site(rendered: Rendered, tmp_path: Path) -> None:
    site = rendered.one("ConfigMap", "-console")["data"]["tunegate.conf"]
    template = dict(rendered.workloads())["tunegate-console"]
    listened = set(re.findall(r"listen (\d+)", site))
    assert listened == {str(container(template)["ports"][0]["containerPort"])}
    assert ("ssl_certificate" in site) == (rendered.name == "locked") == mounted(template, "/etc/tunegate/tls/tls.crt")
    hosts = ("console.tunegate.test", "llm.tunegate.test") if rendered.name == "bundled" else ()
    for host in hosts or ("console.example.com", "llm.example.com"):
        assert f"server_name {host};" in site
    for service in ("control", "gateway"):
        port = rendered.one("Service", f"-{service}")["spec"]["ports"][0]["port"]
        assert re.search(rf"server tunegate-{service}:{port}[ ;]", site)
        site = site.replace(f"tunegate-{service}", "127.0.0.1")  # names are looked up when it starts
    assert not re.search(r"127\.0\.0\.1:(?!8080;|8000 )", site)
    check_with_nginx(site, tmp_path)


def check_with_nginx(site: str, folder: Path) -> None:
    """Have nginx read a site inside of the main file of our image."""
    certificate = trustme.CA().issue_cert("llm.example.com")
    certificate.private_key_pem.write_to_path(folder / "tls.key")
    certificate.cert_chain_pems[0].write_to_path(folder / "tls.crt")
    (folder / "tunegate.conf").write_text(site.replace("/etc/tunegate/tls/", f"{folder}/"))
    main = (ROOT / "charts/docker/nginx.conf").read_text()
    for old, new in (("/tmp/", f"{folder}/"), ("/etc/nginx/conf.d/*.conf", f"{folder}/tunegate.conf")):
        assert old in main
        main = main.replace(old, new)
    (folder / "nginx.conf").write_text(main)
    done = subprocess.run(
        [str(NGINX), "-t", "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")],
        capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
