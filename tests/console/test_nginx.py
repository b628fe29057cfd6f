"""The nginx configuration of charts/ with a real nginx: it serves the console's files, hands on the rest, and hides
what is not for browsers.
"""

from __future__ import annotations

from pathlib import Path

import httpx2 as httpx

from tests.control.api.conftest import Running
from tests.fakes.nginx import Nginx, needs_nginx


@needs_nginx
def test_nginx_serves_the_console(tmp_path: Path, control: Running) -> None:
    with Nginx(tmp_path / "nginx", control.url) as nginx:
        headers = {"host": "console.example.com"}
        with httpx.Client(base_url=nginx.url, headers=headers, trust_env=False, verify=nginx.trust) as client:
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
