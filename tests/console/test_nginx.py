"""The nginx configuration of charts/ with a real nginx: it serves the console's files, hands on the rest, and hides
what is not for browsers.
"""

from __future__ import annotations

import shutil
import ssl
import subprocess
from pathlib import Path

import httpx2 as httpx
import pytest
import trustme

from tests.control.api.conftest import Running
from tests.fakes.gateway import eventually
from tests.processes import free_port

ROOT = Path(__file__).parents[2]
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")


@pytest.mark.skipif(NGINX is None, reason="nginx is not installed")
def test_nginx_serves_the_console(tmp_path: Path, control: Running) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("console.example.com", "llm.example.com", "localhost")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    port = free_port()
    text = (ROOT / "charts/nginx/tunegate.conf").read_text()
    for old, new in (
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("/usr/share/tunegate/console", str(ROOT / "console/dist")),
        ("127.0.0.1:8080", control.url.removeprefix("http://")),
        *((f"/etc/ssl/{name}.example.com.crt", str(tmp_path / "cert.pem")) for name in ("console", "llm")),
        *((f"/etc/ssl/{name}.example.com.key", str(tmp_path / "key.pem")) for name in ("console", "llm")),
    ):
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "site.conf").write_text(text)
    types = "/etc/nginx/mime.types"
    folders = " ".join(
        f"{kind}_temp_path {tmp_path}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (tmp_path / "nginx.conf").write_text(
        f"daemon off; pid {tmp_path}/pid; error_log {tmp_path}/error.log; events {{}}\n"
        f"http {{ include {types}; access_log off; {folders} include {tmp_path}/site.conf; }}"
    )
    process = subprocess.Popen([str(NGINX), "-c", str(tmp_path / "nginx.conf"), "-e", str(tmp_path / "error.log")])
    try:
        eventually((tmp_path / "pid").exists, 5, "nginx does not start")
        with httpx.Client(
            base_url=f"https://localhost:{port}", headers={"host": "console.example.com"}, trust_env=False,
            verify=ssl.create_default_context(cafile=tmp_path / "ca.pem"),
        ) as client:  # fmt: skip
            page = client.get("/keys?state=all")
            assert page.status_code == 200
            assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
            script = page.text.partition('src="')[2].partition('"')[0]
            asset = client.get(script, headers={"accept-encoding": "gzip"})
            assert asset.headers["content-encoding"] == "gzip"
            assert "immutable" in asset.headers["cache-control"]
            assert client.get("/assets/none.js").status_code == 404
            assert client.get("/api/v1/auth/methods").json()["password"] is True
            assert client.get("/internal/v1/spend").status_code == 404
            dataset = client.put("/api/v1/datasets/big/versions/1/content", content=b"x" * 2_000_000)
            assert dataset.status_code == 401, "control says how large a body may be, and who may send it"
    finally:
        process.terminate()
        process.wait(10)
