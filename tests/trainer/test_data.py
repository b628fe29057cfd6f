"""The check of datasets: every row is accounted for, whatever stands in the file."""
# ruff: noqa: E501 - a table of rows reads best with a row in a line

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from pyarrow import parquet

from trainer.data.check import check
from trainer.data.formats import Refused, canonical, detect
from trainer.data.hints import hints
from trainer.data.read import LONGEST, Unreadable

HI = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]
CALLS = [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}]
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {}}}]


def run(tmp_path: Path, content: str | bytes, name: str = "x.jsonl", form: str = "auto") -> dict[str, Any]:
    source = tmp_path / name
    source.write_bytes(content if isinstance(content, bytes) else content.encode())
    report = check(source, tmp_path / "out", form)
    assert report["total"] == report["accepted"] + report["rejected"] + report["duplicates"]
    assert report["accepted"] == len(lines(tmp_path / "out" / "rows.jsonl"))
    assert report["rejected"] == len(lines(tmp_path / "out" / "rejected.jsonl")) == sum(report["reasons"].values())
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == report
    return report


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def accepted(tmp_path: Path) -> list[dict[str, Any]]:
    return lines(tmp_path / "out" / "rows.jsonl")


def rejected(tmp_path: Path) -> list[tuple[int, str]]:
    return [(one["line"], one["code"]) for one in lines(tmp_path / "out" / "rejected.jsonl")]


def jsonl(*rows: Any) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


FORMS: list[tuple[str, Any, dict[str, Any]]] = [
    ("messages", {"messages": HI}, {"messages": HI}),
    ("messages", {"messages": [{"role": "developer", "content": "s"}, *HI], "id": 7}, {"messages": [{"role": "system", "content": "s"}, *HI]}),
    ("messages", {"messages": [{"role": "user", "content": [{"type": "text", "text": "h"}, {"type": "text", "text": "i"}]}, HI[1]]}, {"messages": HI}),
    ("alpaca", {"instruction": "hi", "input": "", "output": "ho"}, {"messages": HI}),
    ("alpaca", {"instruction": "sum", "input": "1 2", "output": "3"}, {"messages": [{"role": "user", "content": "sum\n1 2"}, {"role": "assistant", "content": "3"}]}),
    ("alpaca", {"prompt": "hi", "response": "ho"}, {"messages": HI}),
    ("alpaca", {"instruction": "hi", "output": "ho", "history": [["a", "b"]], "system": "s"}, {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, *HI]}),
    ("sharegpt", {"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "ho"}]}, {"messages": HI}),
    ("sharegpt", {"conversations": [
        {"from": "human", "value": "hi"}, {"from": "function_call", "value": '{"name": "f", "arguments": {"a": 1}}'},
        {"from": "observation", "value": "2"}, {"from": "gpt", "value": "ho"}], "tools": json.dumps(TOOLS)},
     {"messages": [HI[0], {"role": "assistant", "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {"a": 1}}}], "content": ""},
                   {"role": "tool", "content": "2"}, HI[1]], "tools": TOOLS}),
    ("preference", {"prompt": "hi", "chosen": "ho", "rejected": "no"}, {"prompt": HI[:1], "chosen": HI[1:], "rejected": [{"role": "assistant", "content": "no"}]}),
    ("preference", {"chosen": HI, "rejected": [HI[0], {"role": "assistant", "content": "no"}]}, {"prompt": HI[:1], "chosen": HI[1:], "rejected": [{"role": "assistant", "content": "no"}]}),
    ("kto", {"prompt": "hi", "completion": "ho", "label": True}, {"prompt": HI[:1], "completion": HI[1:], "label": True}),
    ("kto", {"messages": HI, "label": "false"}, {"prompt": HI[:1], "completion": HI[1:], "label": False}),
    ("choice", {"question": "hi", "choices": ["ho", "no"], "answer": 1}, {"prompt": HI[:1], "choices": ["ho", "no"], "answer": 1}),
    ("choice", {"prompt": HI[:1], "choices": ["ho", "no"], "answer": "A"}, {"prompt": HI[:1], "choices": ["ho", "no"], "answer": 0}),
    ("choice", {"question": "hi", "choices": {"text": ["ho", "no"], "label": ["1", "2"]}, "answerKey": "2"}, {"prompt": HI[:1], "choices": ["ho", "no"], "answer": 1}),
    ("choice", {"question": "hi", "choices": {"text": ["ho", "no"], "label": [1, 2]}, "answer": 1}, {"prompt": HI[:1], "choices": ["ho", "no"], "answer": 0}),
    ("choice", {"query": "hi", "choices": ["3", "2"], "answer": "2"}, {"prompt": HI[:1], "choices": ["3", "2"], "answer": 1}),
    ("choice", {"query": "hi", "choices": ["3", "2"], "gold": "0"}, {"prompt": HI[:1], "choices": ["3", "2"], "answer": 0}),
    ("text", {"text": "once upon a time"}, {"text": "once upon a time"}),
    ("text", "once upon a time", {"text": "once upon a time"}),
]  # fmt: skip


@pytest.mark.parametrize(("form", "row", "wanted"), FORMS, ids=[f"{n}-{one[0]}" for n, one in enumerate(FORMS)])
def test_each_format_is_found_out_and_becomes_the_one_form(form: str, row: Any, wanted: dict[str, Any]) -> None:
    assert detect([row]) == form
    assert canonical(form, row) == wanted  # type: ignore[arg-type]


@pytest.mark.parametrize(("form", "row", "wanted"), FORMS, ids=[f"{n}-{one[0]}" for n, one in enumerate(FORMS)])
def test_the_one_form_is_a_format_itself(form: str, row: Any, wanted: dict[str, Any]) -> None:
    again = detect([wanted])
    assert again is not None
    assert canonical(again, wanted) == wanted


def chat(*roles: str) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": "x"} for role in roles]}


@pytest.mark.parametrize(
    ("form", "row", "code"),
    [
        ("messages", {"messages": []}, "empty"),
        ("messages", {"messages": "hi"}, "wrong_type"),
        ("messages", {"messages": [1]}, "wrong_type"),
        ("messages", {}, "missing"),
        ("messages", [], "wrong_type"),
        ("messages", chat("user"), "no_assistant"),
        ("messages", chat("user", "assistant", "user"), "roles"),
        ("messages", chat("assistant"), "roles"),
        ("messages", chat("user", "user", "assistant"), "roles"),
        ("messages", chat("user", "assistant", "assistant"), "roles"),
        ("messages", chat("user", "system", "assistant"), "roles"),
        ("messages", chat("user", "tool", "assistant"), "roles"),
        ("messages", chat("narrator", "assistant"), "roles"),
        ("messages", {"messages": [HI[0], {"role": "assistant", "content": " "}]}, "empty"),
        ("messages", {"messages": [HI[0], {"role": "assistant", "content": None}]}, "wrong_type"),
        ("messages", {"messages": [{"role": "user", "content": [{"type": "image_url"}]}, HI[1]]}, "not_text"),
        ("messages", {"messages": [HI[0], {"role": "assistant", "tool_calls": CALLS}, HI[1]]}, "roles"),
        ("messages", {"messages": [HI[0], {"role": "assistant", "tool_calls": [{}]}]}, "tool_calls"),
        ("messages", {"messages": [HI[0], {"role": "assistant", "tool_calls": "f"}]}, "tool_calls"),
        ("messages", {"messages": [HI[0], {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}]}, "tool_calls"),
        ("messages", {"messages": [{**HI[0], "tool_calls": CALLS}, HI[1]]}, "tool_calls"),
        ("messages", {"messages": HI, "tools": "{"}, "tools"),
        ("messages", {"messages": HI, "tools": {"name": "f"}}, "tools"),
        ("alpaca", {"instruction": "hi"}, "missing"),
        ("alpaca", {"instruction": "", "output": "ho"}, "empty"),
        ("alpaca", {"instruction": 1, "output": "ho"}, "wrong_type"),
        ("alpaca", {"instruction": "hi", "output": "ho", "history": [["a"]]}, "wrong_type"),
        ("sharegpt", {"conversations": {}}, "wrong_type"),
        ("sharegpt", {"conversations": [{"from": "cat", "value": "x"}]}, "roles"),
        ("sharegpt", {"conversations": [1]}, "roles"),
        ("preference", {"prompt": "hi", "chosen": "ho", "rejected": "ho"}, "same"),
        ("preference", {"prompt": "hi", "chosen": "ho"}, "missing"),
        ("preference", {"chosen": "ho", "rejected": "no"}, "missing"),
        ("preference", {"chosen": [], "rejected": []}, "empty"),
        ("kto", {"prompt": "hi", "completion": "ho", "label": "maybe"}, "wrong_type"),
        ("kto", {"prompt": "hi", "completion": [], "label": True}, "missing"),
        ("choice", {"question": "hi", "choices": ["ho"], "answer": 0}, "choices"),
        ("choice", {"question": "hi", "choices": ["x"] * 27, "answer": 0}, "choices"),
        ("choice", {"question": "hi", "choices": "ho", "answer": 0}, "choices"),
        ("choice", {"question": "hi", "choices": {"text": ["ho", "no"], "label": ["1"]}, "answer": "1"}, "choices"),
        ("choice", {"question": "hi", "choices": ["ho", "ho"], "answer": 0}, "same"),
        ("choice", {"question": "hi", "choices": ["ho", " "], "answer": 0}, "empty"),
        ("choice", {"question": "hi", "choices": ["ho", 1], "answer": 0}, "wrong_type"),
        ("choice", {"choices": ["ho", "no"], "answer": 0}, "missing"),
        ("choice", {"question": HI, "choices": ["ho", "no"], "answer": 0}, "roles"),
        *(
            ("choice", {"question": "hi", "choices": ["ho", "no"], "answer": answer}, "answer")
            for answer in (2, -1, True, 0.0, None, [], "C", "2", "9" * 5000, 10**3000)
        ),
        ("text", {"text": ""}, "empty"),
        ("text", {"text": 3}, "wrong_type"),
    ],
)  # fmt: skip
def test_what_cannot_be_learned_from_is_refused_with_its_reason(form: Any, row: Any, code: str) -> None:
    with pytest.raises(Refused) as caught:
        canonical(form, row)
    assert caught.value.code == code
    assert str(caught.value)


def test_every_row_is_accounted_for_with_its_line(tmp_path: Path) -> None:
    content = jsonl({"messages": HI}, {"messages": []}) + "\n{not json\n" + jsonl({"messages": HI}) + '"x"\n'
    content += '{"messages": [{"role": "user", "content": "a\\ud800"}, {"role": "assistant", "content": "b"}]}\n'
    content += (
        "[" * 100_000 + "\n" + '{"messages": NaN}\n' + json.dumps({"messages": chat("user", "assistant")["messages"]})
    )
    report = run(tmp_path, content)
    assert (report["total"], report["accepted"], report["duplicates"]) == (9, 2, 1)
    assert [one["_line"] for one in accepted(tmp_path)] == [1, 10]
    assert report["duplicate_lines"] == [{"line": 5, "of": 1}]
    assert rejected(tmp_path) == [
        (2, "empty"), (4, "not_json"), (6, "wrong_type"), (7, "encoding"), (8, "too_deep"), (9, "not_json"),
    ]  # fmt: skip
    assert report["kind"] == "sft"
    assert report["roles"] == {"user": 2, "assistant": 2}
    assert report["lengths"]["characters"]["total"] == 6


def test_one_endless_line_is_one_rejected_row(tmp_path: Path) -> None:
    content = jsonl({"messages": HI}) + "x" * (LONGEST + 10) + "\n" + jsonl({"text": "t", "messages": [*HI, *HI]})
    report = run(tmp_path, content)
    assert report["reasons"] == {"too_long": 1}
    assert [one["_line"] for one in accepted(tmp_path)] == [1, 3]


def test_the_same_rows_come_from_every_kind_of_file(tmp_path: Path) -> None:
    rows = [{"instruction": f"question, “{n}”\nmore", "input": "", "output": f"答{n}"} for n in range(700)]
    table = io.StringIO()
    writer = csv.DictWriter(table, fieldnames=list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "p.parquet")
    contents: dict[str, str | bytes] = {
        "a.jsonl": jsonl(*rows), "b.json": json.dumps(rows, indent=1), "c.csv": "\ufeff" + table.getvalue(),
        "d.parquet": (tmp_path / "p.parquet").read_bytes(), "e.json": jsonl(*rows), "f.ndjson": jsonl(*rows),
    }  # fmt: skip
    found = []
    for name, content in contents.items():
        report = run(tmp_path, content, name)
        assert (report["accepted"], report["format"]) == (700, "alpaca"), name
        assert report["mapping"] == {"instruction": "instruction", "output": "output", "input": "input"}
        found.append([{**one, "_line": 0} for one in accepted(tmp_path)])
    assert all(one == found[0] for one in found)


def test_messages_survive_csv_and_parquet(tmp_path: Path) -> None:
    row = {
        "messages": [
            HI[0],
            {"role": "assistant", "content": None, "tool_calls": CALLS},
            {"role": "tool", "content": "2", "tool_call_id": "c1"},
            HI[1],
        ]
    }
    parquet.write_table(pyarrow.Table.from_pylist([row, {"messages": HI}]), tmp_path / "p.parquet")
    assert run(tmp_path, (tmp_path / "p.parquet").read_bytes(), "x.parquet")["accepted"] == 2
    from_parquet = accepted(tmp_path)[0]["messages"]
    table = io.StringIO()
    csv.writer(table).writerows([["messages", "id"], [json.dumps(row["messages"]), "1"]])
    assert run(tmp_path, table.getvalue(), "x.csv")["accepted"] == 1
    assert accepted(tmp_path)[0]["messages"] == from_parquet
    assert from_parquet[1]["tool_calls"][0]["function"] == {"name": "f", "arguments": {"a": 1}}


@pytest.mark.parametrize(
    ("content", "name", "words"),
    [
        ("", "x.jsonl", "no rows"),
        ("\n\n", "x.jsonl", "no rows"),
        ('{"a": 1, "b": 2}\n', "x.jsonl", "its columns are a, b"),
        ("<html>", "x.jsonl", "not JSON"),
        (b"\xff\xfe{\x00}", "x.jsonl", "not UTF-8"),
        ('[{"text": "a"}, {"text": ', "x.json", "row 2 cannot be read"),
        ('[{"text": "a"}', "x.json", "row 2 cannot be read"),
        ("[" * 10_000, "x.json", "row 1 cannot be read"),
        ("", "x.csv", "names its columns"),
        ("a,a\n1,2\n", "x.csv", "each of them once"),
        ('text\n"abc', "x.csv", "no CSV"),
        (b"PAR1 nonsense", "x.parquet", "no Parquet"),
    ],
)
def test_a_file_that_is_none_is_refused_as_a_whole(tmp_path: Path, content: str | bytes, name: str, words: str) -> None:
    with pytest.raises(Unreadable, match=words):
        run(tmp_path, content, name)


def test_a_csv_row_with_another_number_of_fields_is_rejected(tmp_path: Path) -> None:
    run(tmp_path, "text,id\nhello,1\nworld\nmore,2\n", "x.csv")
    assert rejected(tmp_path) == [(3, "columns")]


def test_hints_at_personal_data() -> None:
    assert set(hints("write to li.na@example.com or 13812345678")) == {"email", "phone"}
    assert set(hints("id 11010519491231002X")) == {"id_card"}
    assert set(hints("card 4111 1111 1111 1111")) == {"bank_card"}
    assert not list(hints("id 110105194912310021, card 4111111111111112, at 2026-11-28 12:00:00, 0000000000000"))


def test_the_command_tells_its_progress_and_why_it_failed(tmp_path: Path) -> None:
    source = tmp_path / "x.jsonl"
    source.write_text(jsonl(*({"text": f"row {n}"} for n in range(1000))))
    command = [sys.executable, "-m", "trainer.data.check", str(source), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(done.stdout.splitlines()[-1]) == {"rows": 1000, "share": 1.0}
    source.write_text("")
    failed = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (failed.returncode, failed.stderr) == (1, "the file has no rows\n")


values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5) | st.sampled_from(["user", "assistant", "hi"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["messages", "role", "content", "tool_calls", "function", "name", "arguments", "chosen", "rejected",
                         "prompt", "label", "completion", "conversations", "from", "value", "instruction", "output", "text",
                         "tools", "history"]),
        inner, max_size=4,
    ),
    max_leaves=20,
)  # fmt: skip


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(values, min_size=1, max_size=6),
    form=st.sampled_from(["messages", "alpaca", "sharegpt", "preference", "kto", "text"]),
)
def test_whatever_the_rows_are_each_is_accounted_for(tmp_path: Path, rows: list[Any], form: str) -> None:
    report = run(tmp_path, jsonl(*rows), form=form)
    assert report["total"] == len(rows)
