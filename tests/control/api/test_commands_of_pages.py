"""Commands of pages do what the page says: the shell blocks of each are run from top to bottom, in bash, against a real
control plane, a real gateway and the real `tunegate`. What is not run is named here with the reason.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.architecture.pages import ROOT, Block, blocks, blocks_of
from tests.architecture.test_chinese import OWN_EXAMPLES, PAIRS
from tests.control.api.conftest import PASSWORD, Running, Start
from tests.control.api.test_adapters import both_live
from tests.control.api.test_request_log import filled
from tests.control.api.test_runs import says
from tests.control.api.training import Worker
from tests.control.test_imports import one_api
from tests.fakes import scripts
from tests.fakes.documents import pdf
from tests.fakes.gateway import Gateway
from tests.fakes.http import once
from tests.fakes.milvus import MilvusLite
from tests.fakes.nginx import NGINX, needs_nginx
from tests.fakes.upstream import Upstream
from tests.fakes.zygote import command
from tests.gateway.test_provider_pages import PAGES as PROVIDERS, SECRET
from tests.processes import eventually, free_port

__all__ = ["one_api"]

LEFT_OUT = {
    r"make ": "fills environments, or runs for minutes; test_documented.py knows the target",
    r"(cd console && )?npm ": "make check and make test run them; test_documented.py knows the script",
    r"\.venv/bin/python -m tests\.": "takes minutes; test_documented.py knows the module",
    r"sh secrets\.sh ": "run by tests/charts/test_images.py",
    r"(for plane in|cd charts/docker|docker |  docker |done$)": "needs a Docker daemon",
    r"(kubectl|helm|TOKEN=\$\(kubectl) ": "needs a cluster; tests/charts render the manifests",
    r"prometheus ": "runs until it is stopped; tests/monitoring let promtool read the file",
    r"vault ": "needs a Vault; tests/control/test_kms.py has one that answers like it",
    r"(python convert_hf_to_gguf\.py|llama-quantize) ": "tools of llama.cpp, which are not ours",
}  # fmt: skip
"""How lines of shell blocks begin that are not run here, and why."""
ELSEWHERE = {
    **dict.fromkeys(PROVIDERS, "run by tests/gateway/test_provider_pages.py"),
    **{
        ROOT / "docs/zh" / name: "the commands of the English page: tests/architecture/test_chinese.py"
        for name in {*PAIRS} - OWN_EXAMPLES
    },
}
KEY = "sk-tg-a-key-of-the-pages-0123456789"
TUNEGATE = f"""#!/bin/sh
case "$1" in
restore) export TUNEGATE_CONSOLE_DATA_DIR="$RESTORED" ;;
gateway) TUNEGATE_GATEWAY_DATA_DIR="$PWD/another" exec {sys.executable} -c '
import subprocess, sys
process = subprocess.Popen([sys.executable, "-m", *sys.argv[1:]], stderr=subprocess.PIPE, text=True)
if any(chr(34) + "gateway.listening" + chr(34) in line for line in process.stderr):
    process.terminate()
raise SystemExit(process.wait(20))' gateway serve "$2" "$3" ;;
esac
exec "$ZYGOTE" "$@"
"""
"""The command; what it restores into is empty, and a gateway, with a folder of its own, is stopped once it listens."""


@pytest.fixture(scope="module")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A `tunegate` that starts at once."""
    folder = tmp_path_factory.mktemp("zygote")
    argv = [sys.executable, "-m", "tests.fakes.zygote", str(folder / "socket")]
    with subprocess.Popen(argv, cwd=ROOT) as process:
        eventually((folder / "socket").exists, 120)
        command(folder / "tunegate", folder / "socket")
        yield folder / "tunegate"
        process.kill()


def lines_of(block: Block) -> list[str]:
    """Its lines, those that a backslash continues as one, without those that are comments."""
    joined = block.text.replace("\\\n", " ").splitlines()
    return [line for line in joined if line.strip() and not line.startswith("#")]


def left_out(block: Block) -> bool:
    return all(any(re.match(pattern, line) for pattern in LEFT_OUT) for line in lines_of(block))


RUN = sorted({block.page for block in blocks("sh") if not left_out(block)} - ELSEWHERE.keys())


def test_every_reason_is_one_of_a_command_that_is_there() -> None:
    lines = [line for block in blocks("sh") for line in lines_of(block)]
    assert not [pattern for pattern in LEFT_OUT if not any(re.match(pattern, line) for line in lines)]
    assert {page.relative_to(ROOT).as_posix() for page in RUN} == SCENES.keys()


class Scene:
    """Where the commands of one page are run: a folder, and what they find there and behind their addresses."""

    def __init__(self, page: Path, folder: Path, start: Start, upstream: Upstream, zygote: Path) -> None:
        self.page, self.folder, self.upstream = page, folder, upstream
        self.start_control = start
        self.texts = [("…", "-0123456789abcdef"), ("https://api.openai.com/v1", upstream.url)]
        """What stands for something in the page's commands, and what that is here."""
        (folder / "bin").mkdir()
        (folder / "bin/tunegate").write_text(TUNEGATE)
        (folder / "bin/tunegate").chmod(0o700)
        (folder / ".curlrc").write_text("silent\nfail-with-body\nshow-error\nmax-time = 30\n")
        self.env = {
            **os.environ, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT),
            "CURL_HOME": str(folder),
            "TUNEGATE_GATEWAY_LISTEN": "127.0.0.1:0", "TUNEGATE_GATEWAY_DATA_DIR": str(folder / "data"),
            "TUNEGATE_APP_KEY": KEY, "TUNEGATE_CI_KEY": KEY[::-1], "RESTORED": str(folder / "restored"),
            "ZYGOTE": str(zygote),
        }  # fmt: skip
        for name in ("OPENAI", "DEEPSEEK", "DASHSCOPE", "ZHIPU"):
            self.env[f"{name}_API_KEY"] = SECRET
        self.env |= {"AZURE_OPENAI_KEY": SECRET, "EU_KEY": SECRET}

    def control(self, **settings: object) -> Running:
        """A control plane at the address that pages name; `T` is the token of its admin."""
        running = self.start_control(**settings)
        token = running.admin.headers["authorization"].removeprefix("Bearer ")
        self.texts.append(("http://127.0.0.1:8080", running.url))
        self.env |= {"API": f"{running.url}/api/v1", "T": token, "ACCESS_TOKEN": token}
        self.env["TUNEGATE_CONSOLE_DATA_DIR"] = str(running.settings.console.data_dir)
        return running

    def configuration(self, page: Path | None = None) -> str:
        """The page's first one, in the file that its commands name."""
        text = next(block.text for block in blocks_of(page or self.page) if block.language == "toml")
        (self.folder / "config.toml").write_text(text)
        return text

    def served(self, text: str) -> str:
        """A configuration of which all upstreams are the fake one."""
        for base in re.findall(r'base_url = "([^"]+)"', text):
            text = text.replace(base, self.upstream.url.removesuffix("/v1") + urlsplit(base).path)
        return text

    def run(self) -> str:
        """All that the page's commands print; the first one that fails is named."""
        found = [block.text for block in blocks_of(self.page) if block.language == "sh" and not left_out(block)]
        script = "\n".join(["trap 'echo \"FAILED: $BASH_COMMAND\" >&2' ERR", *found])
        for old, new in self.texts:
            script = script.replace(old, new)
        done = subprocess.run(
            ["bash", "-Eeu", "-o", "pipefail", "-c", script], cwd=self.folder, env=self.env, capture_output=True,
            text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout


def operations(scene: Scene) -> Iterator[None]:
    control = scene.control(allow_private_upstreams=True)
    control.admin.post("/api/v1/users", json={"username": "alice", "password": PASSWORD, "role": "admin"})
    alice = control.as_("alice").headers["authorization"]
    local = {"name": "local", "provider": "vllm", "spec": {"base_url": "http://127.0.0.1:8101/v1"}}
    assert control.admin.post("/api/v1/endpoints", json=local).status_code == 201
    scene.env["ID"] = filled(control)[0]
    (scene.folder / "backup").mkdir()
    scene.texts[:0] = [  # a token ends with its password: that of another admin is changed
        ("$API/auth/password -H \"authorization: Bearer $T\"", f"$API/auth/password -H 'authorization: {alice}'"),
        ('"password":"…"', f'"password":"{PASSWORD}"'), ('"current":"…"', f'"current":"{PASSWORD}"'),
        ("/backup/", f"{scene.folder}/backup/"),
    ]  # fmt: skip
    yield
    assert control.admin.get("/api/v1/usage/requests/" + scene.env["ID"]).json()["bodies"] == "erased"
    assert (scene.folder / "restored/tunegate.db").exists()


def migrating(scene: Scene) -> Iterator[None]:
    control = scene.control()
    scene.configuration()
    config = next(block.text for block in blocks_of(scene.page) if block.language == "yaml")
    (scene.folder / "config.yaml").write_text(config)
    yield
    routes = {one["name"] for one in control.admin.get("/api/v1/routes").json()["items"]}
    assert routes >= {"gpt-4o", "deepseek-chat", "qwen3", "gpt-4"}
    assert {one["name"] for one in control.admin.get("/api/v1/keys").json()["items"]} >= {"app", "chatbot"}


def comparisons(scene: Scene) -> Iterator[None]:
    for model in ("gpt-4o", "support-bot", "support-bot@v1", "support-bot@v2"):
        scene.upstream.on(model, says("42"))
    control = scene.control(gateway_url=scene.upstream.url.removesuffix("/v1"))
    both_live(control, control.admin, Worker(control))
    control.sql("UPDATE adapter SET row_version = 3")
    openai = {"name": "openai", "provider": "openai", "spec": {"base_url": "https://api.openai.com/v1"}}
    assert control.admin.post("/api/v1/endpoints", json=openai).status_code == 201
    target, everyone = {"endpoint": "openai", "model": "gpt-4o"}, {"principal_kind": "everyone"}
    route = {"name": "gpt-4o", "spec": {"target": [target]}, "grants": [everyone]}
    assert control.admin.post("/api/v1/routes", json=route).status_code == 201
    version = {
        "prompts": [{"name": "plain", "messages": [{"role": "user", "content": "{{question}}"}]}],
        "scorers": [{"name": "right", "kind": "numeric"}, {"name": "good", "kind": "contains"}],
        "sources": [{"kind": "csv", "text": "question,expected\n" + "".join(f"{n} + 1,{n + 1}\n" for n in range(24))}],
    }
    (scene.folder / "grown.json").write_text(json.dumps(version))
    grown = 'curl -s -H "$AUTH" $API/suites/sums/versions --json @grown.json\n'
    scene.texts.append(("curl -X PATCH", f"{grown}curl -X PATCH"))  # the suite has 20 cases by then, as the page asks
    yield
    assert control.admin.get("/api/v1/adapters/support-bot").json()["gate_try"]  # before the rollout


def knowledge(scene: Scene) -> Iterator[None]:
    with MilvusLite(scene.folder / "milvus") as milvus:
        control = scene.control(knowledge={"milvus_uri": milvus.uri})
        (scene.folder / "handbook.pdf").write_bytes(pdf(["Everybody has thirty days of leave."]))
        yield
        assert control.admin.get("/api/v1/knowledge/handbook/test-sets/common/runs").json()["items"]


def keys(scene: Scene) -> Iterator[None]:
    control = scene.control()
    (team,) = re.findall(r'(?m)^\[\[team\]\]\nname = "(.+)"$', scene.configuration())
    assert control.admin.post("/api/v1/teams", json={"name": team}).status_code == 201
    yield
    assert control.admin.get(f"/api/v1/keys/chatbot@{team}").json()["models"] == ["qwen-*"]


def route_explained(scene: Scene) -> Iterator[None]:
    scene.configuration()
    yield


def of_providers(scene: Scene) -> Iterator[None]:
    scene.configuration(ROOT / "docs/providers/openai.md")
    yield


TINY = """
[[endpoint]]
name = "tiny"
provider = "dummy"
[[route]]
name = "tiny"
[[route.target]]
endpoint = "tiny"
model = "tiny"
"""


def standalone(scene: Scene) -> Iterator[None]:
    """A gateway with the page's configuration, and the model that `make run` brings."""
    text = scene.served(scene.configuration()) + TINY
    (scene.folder / "var").mkdir()
    (scene.folder / "var/first-key").write_text(KEY)
    (scene.folder / "serving").mkdir()
    env = {name: scene.env[name] for name in scene.env if name.startswith("TUNEGATE_") or name.endswith("_API_KEY")}
    gateway = Gateway({}, scene.folder / "serving", env=env)
    gateway.write_text(text)
    with gateway:
        scene.texts += [("http://127.0.0.1:8000", gateway.url), ("$(openssl rand -hex 24)", KEY)]
        yield


SCENES: dict[str, Callable[[Scene], Iterator[None]]] = {
    "docs/comparisons.md": comparisons, "docs/keys-and-budgets.md": keys, "docs/knowledge.md": knowledge,
    "docs/migrating.md": migrating, "docs/operations.md": operations, "docs/providers/README.md": of_providers,
    "docs/quick-start.md": standalone, "docs/routes-and-fallback.md": route_explained,
    "docs/zh/keys-and-budgets.md": keys, "docs/zh/providers.md": standalone, "docs/zh/quick-start.md": standalone,
    "docs/zh/routes-and-fallback.md": route_explained,
}  # fmt: skip


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """All vendors."""
    with Upstream() as running:
        yield running


@pytest.mark.parametrize("page", RUN, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_commands_of_a_page_succeed_one_after_another(
    page: Path, tmp_path: Path, one_api: Path, start_control: Start, upstream: Upstream, zygote: Path
) -> None:
    assert one_api == tmp_path / "one-api.db"
    scene = Scene(page, tmp_path, start_control, upstream, zygote)
    steps = SCENES[page.relative_to(ROOT).as_posix()](scene)
    next(steps)
    try:
        scene.run()
    except BaseException:
        steps.close()
        raise
    assert not list(steps)


def test_the_query_of_the_page_finds_the_digests_by_which_a_gateway_knows_keys() -> None:
    (query,) = (block.text for block in blocks("sql") if block.page.parent.name == "docs")
    columns = re.sub(r"\s+", " ", query).removeprefix("SELECT ").partition(" FROM ")[0].replace(" AS sha256", "")
    with sqlite3.connect(":memory:") as litellm:
        litellm.execute(f'CREATE TABLE "LiteLLM_VerificationToken" ({columns}, blocked)')
        row = dict.fromkeys(columns.split(", "))
        for name, blocked in (("chatbot", None), ("gone", True)):
            values = {**row, "key_alias": name, "token": sha256(KEY.encode()).hexdigest(), "blocked": blocked}
            marks = ", ".join("?" * len(values))
            litellm.execute(f'INSERT INTO "LiteLLM_VerificationToken" VALUES ({marks})', tuple(values.values()))
        ((name, digest, *_),) = litellm.execute(query).fetchall()
    assert (name, digest) == ("chatbot", sha256(KEY.encode()).hexdigest())


@needs_nginx
def test_the_proxy_of_the_page_sends_new_keys_here_and_each_of_the_others_always_the_same_way(tmp_path: Path) -> None:
    (block,) = (block for block in blocks("nginx") if block.page.parent.name == "docs")
    port = free_port()
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    folders = " ".join(f"{kind}_temp_path {tmp_path}/{kind};" for kind in kinds)
    with Upstream() as before, Upstream() as ours:
        site = block.text.replace("127.0.0.1:8088", f"127.0.0.1:{port}")
        for old, new in (("127.0.0.1:4000", before), ("127.0.0.1:8000", ours)):
            site = site.replace(old, urlsplit(new.url).netloc)
            new.on("m", lambda _: scripts.reply(b"{}"))
        head = f"daemon off; pid {tmp_path}/pid; error_log stderr; events {{}}"
        (tmp_path / "nginx.conf").write_text(f"{head}\nhttp {{ access_log off; {folders}\n{site}}}\n")
        with subprocess.Popen([str(NGINX), "-e", "stderr", "-c", str(tmp_path / "nginx.conf")]) as nginx:
            eventually((tmp_path / "pid").exists, 20)

            def asks(**headers: str) -> bool:
                """Whether the request came to Tunegate."""
                here = len(ours.of("m"))
                url, path = f"http://127.0.0.1:{port}", "/v1/chat/completions"
                named = {name.replace("_", "-"): value for name, value in headers.items()}
                assert (
                    once(url, "POST", path, b'{"model":"m"}', {"content-type": "application/json", **named}).status
                    == 200
                )
                return len(ours.of("m")) > here

            assert asks(authorization="Bearer sk-tg-new")
            assert asks(x_api_key="sk-tg-new")
            assert asks(x_goog_api_key="sk-tg-new")
            old = [asks(authorization=f"Bearer sk-old-{number}") for number in range(100)]
            assert 1 <= sum(old) <= 30, "about a tenth"
            assert [asks(authorization=f"Bearer sk-old-{number}") for number in range(100)] == old
            nginx.terminate()
