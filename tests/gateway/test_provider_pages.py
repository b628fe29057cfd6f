"""Pages of providers are followed: each one's configuration is served, and its curl gets the model's answer."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from gateway.contract.providers import KINDS
from tests.architecture.pages import ROOT, blocks_of, commands
from tests.fakes import scripts
from tests.fakes.gateway import KEY, Gateway, eventually
from tests.fakes.http import once
from tests.fakes.upstream import Seen, Step, Upstream
from tests.matrix.openai_vendor import OpenAIVendor
from tests.matrix.told import Asked, Said
from tests.matrix.vendors import VENDORS, script

PAGES = sorted({*ROOT.glob("docs/providers/*.md")} - {ROOT / "docs/providers/README.md"})
HERE = "http://127.0.0.1:8000"
"""Where pages say that the gateway is."""
SECRET = "secret-of-the-vendor-0123456789"
HELLO = Said("Hello, world: 你好！")
VECTOR = {"object": "embedding", "index": 0, "embedding": [0.25]}
EMBEDDED = {"object": "list", "model": "m", "data": [VECTOR], "usage": {"prompt_tokens": 3, "total_tokens": 3}}


def configuration(page: Path) -> str:
    """The page's own."""
    return next(block.text for block in blocks_of(page) if block.language == "toml")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One process that is given each page in turn, as somebody who edits the file."""
    folder = tmp_path_factory.mktemp("pages")
    names = {name for page in PAGES for name in re.findall(r"env:(\w+)", configuration(page))}
    env = {**dict.fromkeys(names, SECRET), "TUNEGATE_APP_KEY": KEY}
    env |= {"TUNEGATE_GATEWAY_LISTEN": "127.0.0.1:0", "TUNEGATE_GATEWAY_DATA_DIR": str(folder / "data")}
    with Gateway({}, folder, env=env) as running:
        yield running


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    """All vendors."""
    with Upstream() as server:
        yield server


def serve(gateway: Gateway, text: str) -> None:
    """Write the file and wait until it is in force."""
    gateway.write_text(text)
    version = f"file:{sha256(text.encode()).hexdigest()[:12]}"
    eventually(lambda: once(gateway.url, "GET", "/readyz").json.get("snapshot") == version)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_requests_of_a_page_are_answered_by_its_configuration(
    page: Path, gateway: Gateway, upstream: Upstream
) -> None:
    text = configuration(page)
    (endpoint,) = tomllib.loads(text)["endpoint"]
    kind, root = KINDS[endpoint["provider"]], upstream.url.removesuffix("/v1")
    vendor = OpenAIVendor("azure") if kind.kind == "azure" else VENDORS[kind.kind]
    told: list[Asked] = []
    talk, seen = script(vendor, HELLO, told.append), list[Seen]()

    def answer(request: Seen) -> list[Step]:
        seen.append(request)
        return scripts.reply(json.dumps(EMBEDDED).encode()) if "embeddings" in request.target else talk(request)

    for model in re.findall(r'model"?(?: = |:)"([^"]+)"', page.read_text(encoding="utf-8")):
        upstream.on(model.rpartition("/")[2], answer)
    path = urlsplit(endpoint["base_url"]).path
    serve(gateway, text.replace(endpoint["base_url"], root + path))
    asked = [words for where, words in commands("curl") if where.startswith(str(page.relative_to(ROOT)))]
    assert asked
    for words in asked:
        command = [
            word.replace("http://127.0.0.1:8000", gateway.url).replace("$TUNEGATE_APP_KEY", KEY) for word in words
        ]
        heard = subprocess.run([*command, "-S", "--fail-with-body"], capture_output=True, timeout=20, check=False)
        assert heard.returncode == 0, heard.stdout + heard.stderr
        said = seen[-1]
        assert said.target.startswith(path)
        if kind.needs_key:
            sent = said.header(kind.key_header)
            assert sent == (f"Bearer {SECRET}" if kind.key_header == "authorization" else SECRET)
        if "embeddings" in said.target:
            assert json.loads(heard.stdout)["data"] == [VECTOR]
        else:
            assert "你好" in heard.stdout.decode() or "\\u4f60" in heard.stdout.decode()
    assert len(seen) == len(asked)
