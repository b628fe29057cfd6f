"""Web pages by URL: what is taken, what is refused and why, and that an unchanged page costs nothing."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx2 as httpx
import pytest
from yarl import URL

from control.errors import Problem
from control.kit.outbound import Outbound
from control.knowledge.fetching import fetch, name_of
from tests.control.api.conftest import Running, Start
from tests.control.knowledge.conftest import BASES, base, search, settled
from tests.control.knowledge.test_vertical import ENGINE, LEAVE
from tests.fakes import documents as made
from tests.fakes.milvus import MilvusLite

PAGES = f"{BASES}/handbook/pages"


class Site:
    """A web server on loopback; `pages` says what each path is answered with: status, headers, body."""

    def __init__(self) -> None:
        self.pages: dict[str, tuple[int, dict[str, str], bytes]] = {}
        self.asked: list[str] = []
        self.over = threading.Event()
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.asked.append(self.path)
                status, headers, body = site.pages.get(self.path, (404, {"content-type": "text/html"}, b"not here"))
                with contextlib.suppress(OSError):
                    self.send_response(status)
                    for name, value in headers.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(body)
                    if self.path == "/slow":
                        self.wfile.flush()
                        site.over.wait(20)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def say(self, path: str, body: bytes | str, kind: str = "text/html; charset=utf-8", **headers: str) -> str:
        """Let a path answer; its URL."""
        content = body.encode() if isinstance(body, str) else body
        self.pages[path] = (200, {"content-type": kind, **headers}, content)
        return self.url + path

    def redirect(self, path: str, where: str) -> str:
        self.pages[path] = (302, {"location": where}, b"")
        return self.url + path


@pytest.fixture
def site() -> Iterator[Site]:
    running = Site()
    yield running
    running.over.set()
    running.server.shutdown()
    running.server.server_close()
    running.thread.join()


@pytest.fixture
def control(start_control: Start, milvus: MilvusLite) -> Running:
    return start_control(knowledge={"milvus_uri": milvus.uri, "private_pages": True, "max_file_bytes": 100_000})


def page(title: str, text: str) -> str:
    return f"<html><body><nav>menu</nav><h1>{title}</h1><p>{text}</p></body></html>"


def take(client: httpx.Client, url: str, **body: Any) -> httpx.Response:
    return client.post(PAGES, json={"url": url, **body})


def test_a_page_is_found_and_fetched_again_only_where_it_has_changed(engineer: httpx.Client, site: Site) -> None:
    url = site.say("/docs/leave", page("Leave", LEAVE))
    added = take(engineer, url)
    assert added.status_code == 201, added.text
    first = settled(engineer, "handbook", added.json())
    assert (first["state"], first["kind"], first["url"]) == ("ready", "html", url)
    assert (first["name"].startswith("127.0.0.1"), first["name"].endswith("docs leave.html")) == (True, True)
    assert search(engineer, "handbook", "How many days of leave?")[0]["section"] == "Leave"
    path = f"{BASES}/handbook/documents/{first['id']}"
    same = engineer.post(f"{path}/refresh")
    assert (same.status_code, same.json()["id"], same.json()["state"]) == (200, first["id"], "ready")
    assert take(engineer, url).status_code == 200
    site.say("/docs/leave", page("Leave", LEAVE.replace("thirty", "forty")))
    newer = engineer.post(f"{path}/refresh")
    assert (newer.status_code, newer.json()["id"] != first["id"]) == (201, True)
    assert settled(engineer, "handbook", newer.json())["state"] == "ready"
    assert "forty" in search(engineer, "handbook", "How many days of leave?")[0]["text"]
    assert engineer.get(path).status_code == 404, "it was replaced"


def test_types_and_encodings(engineer: httpx.Client, site: Site) -> None:
    pdf = take(engineer, site.say("/a.pdf", made.pdf([ENGINE]), "application/pdf"))
    assert (pdf.status_code, settled(engineer, "handbook", pdf.json())["kind"]) == (201, "pdf")
    chinese = "每位员工每年享有三十天带薪年假。"
    text = take(engineer, site.say("/a", chinese.encode("gb18030"), "text/plain; charset=GB18030"), name="年假.txt")
    assert settled(engineer, "handbook", text.json())["state"] == "ready"
    html = take(engineer, site.say("/b", page("年假", chinese).encode("big5", "ignore"), 'text/html; charset="big5"'))
    assert settled(engineer, "handbook", html.json())["state"] == "ready"
    assert any("带薪年假" in one["text"] for one in search(engineer, "handbook", "带薪年假"))
    wrong = take(engineer, site.say("/c", LEAVE, "text/plain"), name="c.pdf")
    assert (wrong.status_code, wrong.json()["code"]) == (422, "wrong_type")


def test_what_is_not_taken_says_why(engineer: httpx.Client, site: Site) -> None:
    good = site.say("/good", page("Leave", LEAVE))
    assert take(engineer, site.redirect("/moved", "/good")).status_code == 201
    cases = {
        site.url + "/nothing": "status 404",
        site.say("/huge", "x" * 200_000): "larger than 100000 bytes",
        site.say("/image", b"\x89PNG", "image/png"): "'image/png'",
        site.say("/empty", ""): "empty",
        site.redirect("/round", "/round"): "more than 5 times",
        site.redirect("/meta", "http://169.254.169.254/latest/meta-data/"): "metadata",
        site.redirect("/file", "file:///etc/passwd"): "not an http",
        site.redirect("/user", "http://user:secret@127.0.0.1/"): "without a user name",
        "http://169.254.169.254/": "metadata",
        "http://no-such-host.invalid/": "cannot be resolved",
    }
    for url, why in cases.items():
        answer = take(engineer, url)
        assert (answer.status_code, answer.json()["code"]) == (422, "not_fetched"), url
        assert why in answer.json()["detail"], (url, answer.json())
    for url in ("file:///etc/passwd", "http://a b/", "http://a/\x00", "x", f"http://a/{'x' * 2000}"):
        assert take(engineer, url).json()["code"] == "invalid"
    assert engineer.get(f"{BASES}/handbook/documents").json()["total"] == 1
    assert good in (site.url + path for path in site.asked)


def test_another_page_or_file_never_takes_the_place_of_a_page(engineer: httpx.Client, site: Site) -> None:
    one, two = site.say("/one", page("One", LEAVE)), site.say("/two", page("Two", ENGINE))
    assert take(engineer, one, name="page.html").status_code == 201
    taken = take(engineer, two, name="page.html")
    assert (taken.status_code, taken.json()["code"]) == (409, "name_taken")
    sent = engineer.post(f"{BASES}/handbook/documents", params={"name": "a.txt"}, content=LEAVE.encode()).json()
    answer = engineer.post(f"{BASES}/handbook/documents/{sent['id']}/refresh")
    assert (answer.status_code, answer.json()["code"]) == (409, "no_url")


def test_who_may_not_change_a_base_makes_control_fetch_nothing(control: Running, site: Site) -> None:
    base(control.admin, "handbook", readers=[{"kind": "everyone"}])
    url = site.say("/a", page("A", LEAVE))
    assert take(control.as_("engineer"), url).status_code == 404
    assert take(control.as_("viewer"), url).status_code == 403
    assert site.asked == []


def test_private_addresses_are_not_fetched_unless_the_operator_says_so(
    start_control: Start, milvus: MilvusLite, site: Site
) -> None:
    admin = start_control(knowledge={"milvus_uri": milvus.uri}, allow_private_upstreams=True).admin
    base(admin, "handbook")
    answer = take(admin, site.say("/a", page("A", LEAVE)))
    assert (answer.status_code, answer.json()["code"]) == (422, "not_fetched")
    assert "private" in answer.json()["detail"]
    assert site.asked == []


class Reaching(Outbound):
    """Takes one name for a public host."""

    async def addresses(self, url: URL) -> Sequence[str]:
        return ["127.0.0.1"] if url.host == "public.test" else await super().addresses(url)


def test_a_public_page_that_redirects_to_a_private_address_is_not_followed(site: Site) -> None:
    public = site.url.replace("127.0.0.1", "public.test")
    site.say("/secret", page("Secret", "the salary list"))
    site.redirect("/away", f"{site.url}/secret")
    site.redirect("/stays", "/secret")
    outbound = Reaching(allow_private=False)
    assert b"salary" in asyncio.run(fetch(outbound, f"{public}/stays", 10_000)).content
    before = len(site.asked)
    with pytest.raises(Problem, match="private, loopback"):
        asyncio.run(fetch(outbound, f"{public}/away", 10_000))
    assert site.asked[before:] == ["/away"]


def test_a_page_that_never_ends_is_given_up(site: Site) -> None:
    site.say("/slow", "begins")
    with pytest.raises(Problem, match=r"within 0\.3 s"):
        asyncio.run(fetch(Outbound(allow_private=True, seconds=0.3), f"{site.url}/slow", 10_000))


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://example.com/", "example.com.html"),
        ("https://example.com/a/b.html?page=2#top", "example.com a b.html page=2.html"),
        ("https://example.com/a/b.html", "example.com a b.html"),
        ("https://例子.com/%E5%B9%B4%E5%81%87", "例子.com 年假.html"),
    ],
)
def test_a_page_is_named_after_its_url(url: str, name: str) -> None:
    assert name_of(url, "html") == name
    assert len(name_of(f"https://example.com/{'x' * 1900}", "html")) == 255
