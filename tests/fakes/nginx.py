"""A real nginx with the site of charts/nginx, in front of processes that a test has started."""

from __future__ import annotations

import os
import shutil
import signal
import ssl
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import pytest
import trustme

from tests.fakes.gateway import eventually
from tests.processes import free_port

ROOT = Path(__file__).parents[2]
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
needs_nginx = pytest.mark.skipif(
    NGINX is None and os.environ.get("REQUIRE_CHARTS") != "1",
    reason="nginx is not installed: as root on Debian, make test installs it",
)


class Nginx:
    """The site on a port of loopback. `control` and `gateways` are URLs; `gateway_name` is the name in the site by
    which clients call the gateways.
    """

    def __init__(
        self, folder: Path, control: str, gateways: Sequence[str] = (), gateway_name: str = "llm.example.com"
    ) -> None:
        folder.mkdir()
        authority = trustme.CA()
        certificate = authority.issue_cert("console.example.com", "llm.example.com", "localhost")
        certificate.private_key_pem.write_to_path(folder / "key.pem")
        certificate.cert_chain_pems[0].write_to_path(folder / "cert.pem")
        authority.cert_pem.write_to_path(folder / "ca.pem")
        port = free_port()
        self.url = f"https://localhost:{port}"
        self.trust = ssl.create_default_context(cafile=folder / "ca.pem")
        text = (ROOT / "charts/nginx/tunegate.conf").read_text()
        one = "server 127.0.0.1:8000 fail_timeout=1s;"
        for old, new in (
            ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
            ("/usr/share/tunegate/console", str(ROOT / "console/dist")),
            ("127.0.0.1:8080", control.removeprefix("http://")),
            (one, " ".join(one.replace("127.0.0.1:8000", url.removeprefix("http://")) for url in gateways) or one),
            ("server_name llm.example.com", f"server_name {gateway_name}"),
            *((f"/etc/ssl/{name}.example.com.crt", str(folder / "cert.pem")) for name in ("console", "llm")),
            *((f"/etc/ssl/{name}.example.com.key", str(folder / "key.pem")) for name in ("console", "llm")),
        ):
            assert old in text
            text = text.replace(old, new)
        (folder / "site.conf").write_text(text)
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        folders = " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
        (folder / "nginx.conf").write_text(
            f"daemon off; pid {folder}/pid; error_log {folder}/error.log; events {{}}\n"
            f"http {{ include /etc/nginx/mime.types; access_log off; {folders} include {folder}/site.conf; }}"
        )
        self._folder = folder

    def __enter__(self) -> Self:
        command = [str(NGINX), "-c", str(self._folder / "nginx.conf"), "-e", str(self._folder / "error.log")]
        self._process = subprocess.Popen(command)
        eventually((self._folder / "pid").exists, 5, "nginx does not start")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(10)

    def reload(self) -> None:
        """New workers; the old ones finish what they have."""
        self._process.send_signal(signal.SIGHUP)
