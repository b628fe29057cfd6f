"""Chat: one's own saved sessions, and the token with which a page of the console calls the gateway."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from typing import Any

import pytest

from control.chat import service
from control.security import Vault
from gateway.contract import session
from gateway.contract.internal import SnapshotHead
from tests.control.api.conftest import Running
from tests.control.api.test_keys import published
from tests.processes import eventually

URL = "/api/v1/chat/sessions"
TALK = [
    {"role": "user", "content": "What is the 首都 of 50% of people_?"},
    {
        "role": "assistant", "content": "Paris\n\0", "reasoning": "hmm", "model": "gpt", "request_id": "r-1",
        "tool_calls": [{"name": "f", "arguments": "{}"}], "figures": {"input_tokens": 3, "ttft_ms": 12.5},
        "failure": {"message": "cut", "code": "provider_timeout", "status": 504},
    },
]  # fmt: skip


def token(control: Running, who: str = "member") -> dict[str, Any]:
    answer = control.as_(who).post("/api/v1/chat/token")
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def create(control: Running, who: str = "member", **fields: Any) -> dict[str, Any]:
    answer = control.as_(who).post(URL, json={"title": "First", "messages": TALK} | fields)
    assert answer.status_code == 201, answer.text
    body: dict[str, Any] = answer.json()
    return body


def test_a_token_stands_for_an_ordinary_key_that_nobody_has_the_secret_of(control: Running) -> None:
    given = token(control)
    assert (given["expires_in"], given["gateway_url"], given["key"]) == (900, "http://127.0.0.1:8000", "console@member")
    claim = session.claimed(given["token"].encode())
    assert claim is not None
    eventually(lambda: claim.digest.hex() in published(control))
    head = SnapshotHead.model_validate_json(control.service().get("/internal/v1/snapshot").content)
    assert head.session_key is not None
    assert session.proven(session.public_key(head.session_key), claim)
    assert abs(claim.expires_at - time.time() - 900) < 5
    assert published(control)[claim.digest.hex()].name == "console@member"
    listed = control.as_("member").get("/api/v1/keys").json()["items"]
    assert [key["public_name"] for key in listed] == ["console@member"]
    again = session.claimed(token(control)["token"].encode())
    assert again is not None
    assert again.digest == claim.digest
    assert control.admin.get("/api/v1/audit?action=create").json()["total"] >= 1


def test_many_tabs_make_one_key(control: Running) -> None:
    member, answers = control.as_("member"), []
    threads = [threading.Thread(target=lambda: answers.append(member.post("/api/v1/chat/token"))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answer.status_code for answer in answers] == [200] * 6
    assert control.sql("SELECT count(*) FROM api_key WHERE name = 'console'") == [(1,)]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"enabled": False}, "is disabled"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "has expired"),
        (None, "was revoked"),
    ],
)
def test_a_key_that_an_administrator_ended_ends_the_chat_and_says_so(
    control: Running, change: dict[str, Any] | None, words: str
) -> None:
    token(control)
    if change is None:
        assert control.admin.delete("/api/v1/keys/console@member").status_code == 200
    else:
        answer = control.admin.patch("/api/v1/keys/console@member", json=change | {"row_version": 1})
        assert answer.status_code == 200, answer.text
    refused = control.as_("member").post("/api/v1/chat/token")
    assert (refused.status_code, refused.json()["code"]) == (403, "console_key")
    assert words in refused.json()["detail"]
    assert control.sql("SELECT count(*) FROM api_key") == [(1,)]


def test_a_disabled_person_gets_none_and_their_key_leaves_the_gateways(control: Running) -> None:
    def is_published() -> bool:
        return "console@member" in {key.name for key in published(control).values()}

    token(control)
    eventually(is_published)
    answer = control.admin.patch("/api/v1/users/member", json={"row_version": 1, "enabled": False})
    assert answer.status_code == 200, answer.text
    assert control.as_("member").post("/api/v1/chat/token").status_code == 401
    eventually(lambda: not is_published())


def test_a_viewer_has_no_chat(control: Running) -> None:
    for method, path in (("POST", "/api/v1/chat/token"), ("GET", URL), ("POST", URL)):
        assert control.as_("viewer").request(method, path, json={"title": "x"}).status_code == 403


def test_another_key_encryption_key_signs_other_tokens() -> None:
    digest = hashlib.sha256(b"k").hexdigest()
    old, new = Vault(b"a" * 32), Vault(b"b" * 32, b"a" * 32)
    claim = session.claimed(old.session_token(digest, 2_000_000_000).encode())
    assert claim is not None
    assert claim.digest.hex() == digest
    assert session.proven(session.public_key(Vault(b"a" * 32).session_key), claim)
    assert not session.proven(session.public_key(new.session_key), claim)


# ---- sessions ----


def test_a_session_is_kept_as_it_is_and_replaced_as_a_whole(control: Running) -> None:
    settings = {"model": "gpt", "temperature": 0.5, "stop": ["\n"], "seed": -7, "tools": "[not json", "system": "be 好"}
    made = create(control, settings=settings)
    got = control.as_("member").get(f"{URL}/{made['id']}").json()
    assert got == made
    assert {name: value for name, value in got["settings"].items() if value not in (None, "", [])} == settings
    assert [message["content"] for message in got["messages"]] == [message["content"] for message in TALK]
    assert got["messages"][1]["failure"] == TALK[1]["failure"]
    put = {"title": "第二", "messages": TALK[:1], "row_version": 1}
    answer = control.as_("member").put(f"{URL}/{made['id']}", json=put)
    assert (answer.status_code, answer.json()["row_version"], answer.json()["turns"]) == (200, 2, 1)
    got = control.as_("member").get(f"{URL}/{made['id']}").json()
    assert (got["title"], len(got["messages"]), got["settings"]["model"]) == ("第二", 1, "")
    assert control.as_("member").put(f"{URL}/{made['id']}", json=put).json()["code"] == "stale_version"
    assert control.as_("member").delete(f"{URL}/{made['id']}").status_code == 204
    assert control.as_("member").delete(f"{URL}/{made['id']}").status_code == 404


def test_nobody_else_not_even_an_admin_gets_at_a_session(control: Running) -> None:
    path = f"{URL}/{create(control)['id']}"
    for who in ("admin", "engineer"):
        assert control.as_(who).get(path).status_code == 404
        assert control.as_(who).put(path, json={"title": "x", "row_version": 1}).status_code == 404
        assert control.as_(who).delete(path).status_code == 404
        assert control.as_(who).get(URL).json()["total"] == 0
    assert control.as_("member").get(path).status_code == 200


@pytest.mark.parametrize(
    ("search", "found"),
    [("first", 1), ("PARIS", 1), ("首都", 1), ("hmm", 1), ("50% of", 1), ("5_%", 0), ("assistant", 0), ("nowhere", 0)],
)
def test_search_reads_titles_and_what_was_written(control: Running, search: str, found: int) -> None:
    create(control)
    create(control, title="Other", messages=[])
    answer = control.as_("member").get(URL, params={"search": search}).json()
    assert answer["total"] == found
    assert control.as_("member").get(URL).json()["total"] == 2


def test_lists_are_paged_with_the_last_changed_first_and_hold_no_messages(control: Running) -> None:
    ids = [create(control, title=f"s{n}")["id"] for n in range(3)]
    control.as_("member").put(f"{URL}/{ids[0]}", json={"title": "again", "row_version": 1})
    page = control.as_("member").get(URL, params={"per_page": 2}).json()
    assert ([item["title"] for item in page["items"]], page["total"]) == (["again", "s2"], 3)
    assert set(page["items"][0]) == {"id", "title", "turns", "created_at", "updated_at", "row_version"}


def test_of_two_writers_of_one_version_one_is_told(control: Running) -> None:
    made, member, answers = create(control), control.as_("member"), []

    def write(title: str) -> None:
        answers.append(member.put(f"{URL}/{made['id']}", json={"title": title, "row_version": 1}))

    threads = [threading.Thread(target=write, args=(str(n),)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 5


def large(bytes_of_image: int) -> list[dict[str, Any]]:
    return [{"role": "user", "images": ["data:image/png;base64," + "A" * bytes_of_image]}]


def test_two_megabytes_of_messages_fit_and_more_is_refused_and_changes_nothing(control: Running) -> None:
    made = create(control, messages=large(1_900_000))
    path = f"{URL}/{made['id']}"
    text = "x" * 150_000
    refused = control.as_("member").put(
        path, json={"title": "t", "messages": [*large(1_900_000), {"role": "user", "content": text}], "row_version": 1}
    )
    assert (refused.status_code, refused.json()["code"]) == (413, "too_large")
    assert "2000000" in refused.json()["detail"]
    huge = control.as_("member").post(URL, json={"title": "t", "messages": large(1_500_000) * 4})
    assert (huge.status_code, huge.json()["code"]) == (413, "too_large")
    assert control.as_("member").get(path).json() == made
    assert control.as_("member").post("/api/v1/keys", content=b" " * 1_100_000).status_code == 413  # as ever


WRONG: dict[str, dict[str, Any]] = {
    "no title": {"title": ""},
    "a long title": {"title": "x" * 201},
    "messages that are no list": {"messages": {}},
    "a role of its own": {"messages": [{"role": "system", "content": "x"}]},
    "an image from elsewhere": {"messages": [{"role": "user", "images": ["https://evil.example/x.png"]}]},
    "an image that is a page": {"messages": [{"role": "user", "images": ["data:text/html;base64,AAAA"]}]},
    "an image that is a drawing with scripts": {
        "messages": [{"role": "user", "images": ["data:image/svg+xml;base64,AAAA"]}]
    },
    "a number too hot": {"settings": {"temperature": 3}},
    "not a number": {"settings": {"temperature": "NaN"}},
    "true is no number": {"settings": {"temperature": True}},
    "no whole number": {"settings": {"max_tokens": 1.5}},
    "an unknown setting": {"settings": {"temprature": 1}},
    "half a character": {"title": "\ud800"},
}


@pytest.mark.parametrize("case", WRONG)
def test_bad_documents_are_refused_with_the_place(control: Running, case: str) -> None:
    content = json.dumps({"title": "t", "messages": TALK} | WRONG[case])
    answer = control.as_("member").post(URL, content=content, headers={"content-type": "application/json"})
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["at"].startswith("body.")
    assert control.as_("member").get(URL).json()["total"] == 0


def test_a_person_keeps_so_many_sessions_and_no_more(control: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "SESSIONS", 2)
    for _ in range(2):
        create(control)
    refused = control.as_("member").post(URL, json={"title": "t"})
    assert (refused.status_code, refused.json()["code"]) == (409, "too_many")
    assert control.as_("engineer").post(URL, json={"title": "t"}).status_code == 201
