"""Datasets over the API: sent in pieces, checked in a process of their own, built from what is here."""

from __future__ import annotations

import json
from typing import Any

import httpx2 as httpx
import pytest

from tests.control.api.conftest import Running, Start
from tests.control.api.training import ROWS, Worker, begun, checked, dataset, sent, trained

DATASETS = "/api/v1/datasets"


@pytest.fixture
def engineer(control: Running) -> httpx.Client:
    client = control.as_("engineer")
    assert client.post(DATASETS, json={"name": "dialogues"}).status_code == 201
    return client


def jsonl(*rows: Any) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def test_a_file_arrives_in_pieces_and_goes_on_after_a_break(engineer: httpx.Client) -> None:
    number = begun(engineer, "dialogues", "rows.json")
    path = f"{DATASETS}/dialogues/versions/{number}"
    content = json.dumps(ROWS).encode()
    assert engineer.put(f"{path}/content", content=content[:100]).json() == {"size": 100}
    gap = engineer.put(f"{path}/content", params={"offset": 150}, content=content[150:])
    assert (gap.status_code, gap.json()["code"]) == (409, "wrong_offset")
    early = engineer.post(f"{path}/check", json={"size": len(content)})
    assert (early.status_code, early.json()["code"]) == (409, "incomplete")
    assert engineer.get(path).json()["size"] == 100
    again = engineer.put(f"{path}/content", params={"offset": 50}, content=content[50:])
    assert again.json() == {"size": len(content)}
    assert engineer.post(f"{path}/check", json={"size": len(content)}).json()["state"] == "checking"
    version = checked(engineer, "dialogues", number)
    assert (version["state"], version["rows"], version["kind"]) == ("ready", 8, "sft")
    assert engineer.post(f"{path}/check", json={"size": len(content)}).status_code == 200, "twice"
    late = engineer.put(f"{path}/content", content=b"x")
    assert (late.status_code, late.json()["code"]) == (409, "not_uploading")
    shown = engineer.get(f"{path}/rows", params={"offset": 6, "limit": 5}).json()
    assert (shown["total"], [one["line"] for one in shown["items"]]) == (8, [7, 8])
    assert shown["items"][0]["row"] == ROWS[6]
    assert len(engineer.get(f"{path}/download").text.splitlines()) == 8
    assert engineer.delete(path).json()["code"] == "immutable"


def test_what_is_wrong_is_listed_with_lines_and_repaired_in_a_next_version(engineer: httpx.Client) -> None:
    number = begun(engineer, "dialogues")
    sent(engineer, "dialogues", number, jsonl(ROWS[0], {"messages": []}, ROWS[1], ROWS[0], {"messages": "x"}))
    version = checked(engineer, "dialogues", number)
    assert version["state"] == "ready"
    report = version["report"]
    assert (report["total"], report["accepted"], report["rejected"], report["duplicates"]) == (5, 2, 2, 1)
    rejected = engineer.get(f"{DATASETS}/dialogues/versions/{number}/rejected").json()
    assert [(one["line"], one["code"]) for one in rejected["items"]] == [(2, "empty"), (5, "wrong_type")]
    edit = {"version": number, "delete": [3], "repair": [{"line": 5, "row": ROWS[5]}]}
    made = engineer.post(f"{DATASETS}/dialogues/edits", json=edit).json()
    edited = checked(engineer, "dialogues", made["version"])
    assert (edited["state"], edited["source"], edited["parent"], edited["rows"]) == ("ready", "edit", number, 2)
    rows = engineer.get(f"{DATASETS}/dialogues/versions/{made['version']}/rows").json()["items"]
    assert [one["row"] for one in rows] == [ROWS[0], ROWS[5]]
    assert engineer.get(f"{DATASETS}/dialogues/versions/{number}/rows").json()["total"] == 2, "the other one stays"
    wrong = engineer.post(f"{DATASETS}/dialogues/edits", json={"version": number, "delete": [99], "repair": []})
    assert (wrong.status_code, wrong.json()["errors"][0]["at"]) == (422, "body.delete.0")


def test_who_has_learned_from_a_row_is_told_when_it_goes(control: Running, engineer: httpx.Client) -> None:
    dataset(engineer)
    trained(control, engineer, Worker(control))
    made = engineer.post(f"{DATASETS}/dialogues/edits", json={"version": 1, "delete": [1]}).json()
    assert made["adapters"] == [{"adapter": "support-bot", "version": 1, "number": 1}]


@pytest.mark.parametrize(
    ("filename", "content", "words"),
    [
        ("x.jsonl", b"<html>", "no row has a format"),
        ("x.jsonl", b"\xff\xfe", "not UTF-8"),
        ("x.json", b'[{"text": ', "cannot be read"),
        ("x.parquet", b"PAR1", "no Parquet"),
        ("x.jsonl", jsonl({"messages": []}), "no row was accepted"),
    ],
)
def test_a_file_that_is_no_dataset_is_rejected_with_a_reason(
    engineer: httpx.Client, filename: str, content: bytes, words: str
) -> None:
    number = begun(engineer, "dialogues", filename)
    sent(engineer, "dialogues", number, content)
    version = checked(engineer, "dialogues", number)
    assert version["state"] == "rejected"
    assert words in version["message"]
    assert engineer.delete(f"{DATASETS}/dialogues/versions/{number}").status_code == 204


def test_a_check_that_takes_too_much_memory_or_time_is_ended(start_control: Start) -> None:
    """A row of 15 MB of which each three bytes become an object of 56; a check that may take no time at all."""
    rows = b"[" + b"[]," * 5_000_000 + b"[]]\n"
    for limits, words in (({"check_memory_mib": 256}, "memory"), ({"check_seconds": 0.01}, "longer than 0 seconds")):
        engineer = start_control(training=limits).as_("engineer")
        assert engineer.post(DATASETS, json={"name": "dialogues"}).status_code == 201
        number = begun(engineer, "dialogues")
        sent(engineer, "dialogues", number, rows)
        version = checked(engineer, "dialogues", number)
        assert version["state"] == "rejected"
        assert words in version["message"].lower()


@pytest.mark.parametrize("filename", ["../x.jsonl", "x.exe", "x", "a/b.jsonl", "x\n.jsonl", ".jsonl/"])
def test_names_of_files_that_lead_astray_are_refused(engineer: httpx.Client, filename: str) -> None:
    answer = engineer.post(f"{DATASETS}/dialogues/versions", json={"filename": filename})
    assert answer.status_code == 422


def test_uploads_that_are_not_finished_are_few_and_can_be_given_up(engineer: httpx.Client) -> None:
    for _ in range(3):
        begun(engineer, "dialogues")
    answer = engineer.post(f"{DATASETS}/dialogues/versions", json={"filename": "x.jsonl"})
    assert (answer.status_code, answer.json()["code"]) == (409, "busy")
    assert engineer.delete(f"{DATASETS}/dialogues/versions/2").status_code == 204
    assert begun(engineer, "dialogues") == 4, "numbers are never reused"


def test_a_file_above_the_limit_is_cut_off(start_control: Start) -> None:
    engineer = start_control(training={"max_dataset_bytes": 1024}).as_("engineer")
    engineer.post(DATASETS, json={"name": "dialogues"})
    number = begun(engineer, "dialogues")
    answer = engineer.put(f"{DATASETS}/dialogues/versions/{number}/content", content=b"x" * 2_000_000)
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


def test_a_dataset_from_ones_own_chats(control: Running, engineer: httpx.Client) -> None:
    messages = [
        {"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi there"},
        {"role": "user", "content": "and?"}, {"role": "assistant", "content": "that", "stopped": True},
    ]  # fmt: skip
    session = {"title": "t", "settings": {"system": "be kind"}, "messages": messages[:2]}
    id = engineer.post("/api/v1/chat/sessions", json=session).json()["id"]
    empty = engineer.post("/api/v1/chat/sessions", json={"title": "t", "messages": messages[:1]}).json()["id"]
    made = engineer.post(f"{DATASETS}/dialogues/from-chats", json={"sessions": [id, empty]}).json()
    assert made["skipped"] == {"no_answer": 1}
    version = checked(engineer, "dialogues", made["version"])
    assert (version["state"], version["source"]) == ("ready", "chats")
    (row,) = engineer.get(f"{DATASETS}/dialogues/versions/{made['version']}/rows").json()["items"]
    assert row["row"] == {"messages": [{"role": "system", "content": "be kind"}, *messages[:2]]}
    assert (row["origin"], row["consent"]) == (id, "engineer gave their own session")
    kept = engineer.post(f"{DATASETS}/dialogues/edits", json={"version": made["version"]}).json()
    checked(engineer, "dialogues", kept["version"])
    (row,) = engineer.get(f"{DATASETS}/dialogues/versions/{kept['version']}/rows").json()["items"]
    assert row["origin"] == id, "an edit keeps where a row came from"
    other = control.as_("operator").post(f"{DATASETS}/dialogues/from-chats", json={"sessions": [id]})
    assert other.status_code == 404, "the sessions of another are nobody's"


def test_names_are_taken_once_and_stale_edits_refused(engineer: httpx.Client) -> None:
    assert engineer.post(DATASETS, json={"name": "dialogues"}).json()["code"] == "duplicate_name"
    assert engineer.patch(f"{DATASETS}/dialogues", json={"row_version": 1, "description": "a"}).status_code == 200
    answer = engineer.patch(f"{DATASETS}/dialogues", json={"row_version": 1, "description": "b"})
    assert answer.json()["code"] == "stale_version"
    assert engineer.delete(f"{DATASETS}/dialogues").status_code == 204
    assert engineer.get(f"{DATASETS}/dialogues").status_code == 404
