"""Parsing, as control does it: in a process of its own. Every type that is taken, and files that mean harm."""

from __future__ import annotations

import asyncio
import io
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
from pypdf import PdfReader, PdfWriter

from control.knowledge import chunking
from control.knowledge.parse import pdf
from control.knowledge.parse.blocks import GRID_CHARS, Blocks
from control.knowledge.parsing import Unparsed, parse
from control.knowledge.schemas import Chunking
from control.settings import KnowledgeTable
from tests.fakes import documents as made

ROWS = [["item", "price"], ["bolt", 3], ["nut", 2]]
PAGE = (
    "<html><head><title>x</title><script>alert(1)</script></head><body><nav>menu</nav><h1>Leave</h1><p>Thirty <b>days"
    "</b><br>a year.</p><ul><li>one</li></ul><table><tr><th>a</th><th>b</th></tr><tr><td>1</td><td>2</td></tr></table>"
    "<pre>x = 1\n  y</pre></body></html>"
)


def parsed(folder: Path, name: str, data: bytes, **settings: Any) -> dict[str, Any]:
    """What comes of a file."""
    (folder / "source").write_bytes(data)
    return asyncio.run(parse(folder / "source", name, folder / "parsed.json", KnowledgeTable(**settings)))


def refused(folder: Path, name: str, data: bytes, **settings: Any) -> tuple[str, str]:
    """Code and message of a file that is not taken."""
    with pytest.raises(Unparsed) as caught:
        parsed(folder, name, data, **settings)
    return caught.value.code, str(caught.value)


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("a.txt", "one\ntwo\n\nthree".encode("utf-16"), [("text", "one\ntwo"), ("text", "three")]),
        ("a.txt", "年假三十天".encode("gb18030"), [("text", "年假三十天")]),
        (
            "a.md",
            b"# A\n\ntext\n\n## B\n| x | y |\n|---|---|\n| 1 | 2 |\n\n```py\n# no heading\n```\nTitle\n---\nend",
            [("heading", "A"), ("text", "text"), ("heading", "B"), ("table", "x: 1; y: 2"), ("code", "# no heading"),
             ("heading", "Title"), ("text", "end")],
        ),
        (
            "a.html", PAGE.encode(),
            [("heading", "Leave"), ("text", "Thirty days\na year."), ("text", "one"), ("table", "a: 1; b: 2"),
             ("code", "x = 1\n  y")],
        ),
        ("a.csv", b"item;price\nbolt;3\nnut;2\n", [("table", "item: bolt; price: 3\nitem: nut; price: 2")]),
        ("a.xlsx", made.xlsx(ROWS), [("heading", "Prices"), ("table", "item: bolt; price: 3\nitem: nut; price: 2")]),
        ("a.pptx", made.pptx([("Leave", "Thirty days")]), [("heading", "Leave"), ("text", "Thirty days")]),
        (
            "a.docx", made.docx(("Title", "Manual"), ("Heading 1", "Leave"), ("Normal", "Thirty"), [["a"], ["1"]]),
            [("heading", "Manual"), ("heading", "Leave"), ("text", "Thirty"), ("table", "a: 1")],
        ),
        ("a.pdf", made.pdf(["one", "two"]), [("text", "one"), ("text", "two")]),
        ("a.epub", made.epub(["<html><body><h1>C</h1><p>t</p></body></html>"]), [("heading", "C"), ("text", "t")]),
        ("a.jsonl", b'{"q": "why", "n": 1}\n\n{"q": "so"}\n', [("text", "q: why\nn: 1"), ("text", "q: so")]),
        ("a.json", b'[{"q": "why"}, "text"]', [("text", "q: why"), ("text", "text")]),
        ("a.py", b"import os\n\n\ndef f():\n\n    return 1\n\nx = 1\n",
         [("code", "import os"), ("code", "def f():\n\n    return 1"), ("code", "x = 1")]),
        (
            "a.zip", made.zipped({"docs/a.md": b"# A\ntext", "b.png": b"\x89PNG", "c.txt": b"see"}),
            [("heading", "docs/a.md"), ("heading", "A"), ("text", "text"), ("heading", "c.txt"), ("text", "see")],
        ),
    ],
)  # fmt: skip
def test_every_type_becomes_blocks(tmp_path: Path, name: str, data: bytes, expected: list[tuple[str, str]]) -> None:
    blocks = parsed(tmp_path, name, data)["blocks"]
    assert [(block["kind"], block["text"]) for block in blocks] == expected


def test_a_mail_is_read_with_what_is_attached_to_it(tmp_path: Path) -> None:
    data = made.eml("Leave", "Thirty days.", {"more.pdf": made.pdf(["see page one"]), "logo.png": b"\x89PNG"})
    texts = [block["text"] for block in parsed(tmp_path, "a.eml", data)["blocks"]]
    assert texts[0] == "Leave"
    assert "From: alice@example.com" in texts[1]
    assert texts[2:] == ["Thirty days.", "more.pdf", "see page one"]


def test_pages_and_heading_levels_are_kept(tmp_path: Path) -> None:
    result = parsed(tmp_path, "a.pdf", made.pdf(["one", "", "three"]))
    assert (result["kind"], result["pages"]) == ("pdf", 3)
    assert [block["page"] for block in result["blocks"]] == [1, 3]


def bomb() -> bytes:
    """50 MB of zeros in 50 kB."""
    return made.zipped({"a.txt": bytes(50_000_000)})


def lying_bomb() -> bytes:
    """An archive that says it has 10 bytes where there are 20 MB."""
    data = bytearray(made.zipped({"a.txt": b"a" * 20_000_000}))
    at = data.rindex(b"PK\x01\x02")
    data[at + 24 : at + 28] = struct.pack("<I", 10)
    return bytes(data)


def encrypted_zip() -> bytes:
    data = bytearray(made.zipped({"a.txt": b"secret"}))
    for mark, flag in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + flag] |= 1
    return bytes(data)


def encrypted_pdf() -> bytes:
    writer, out = PdfWriter(clone_from=PdfReader(io.BytesIO(made.pdf(["secret"])))), io.BytesIO()
    writer.encrypt("password", algorithm="RC4-128")
    writer.write(out)
    return out.getvalue()


def with_macros() -> bytes:
    out = io.BytesIO(made.docx(("Normal", "text")))
    with zipfile.ZipFile(out, "a") as archive:
        archive.writestr("word/vbaProject.bin", b"macro")
    return out.getvalue()


def entities() -> bytes:
    """A Word file whose XML would grow to gigabytes."""
    lols = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))
    xml = f'<!DOCTYPE d [<!ENTITY l0 "lol">{lols}]><d>&l11;</d>'
    return made.zipped({"word/document.xml": xml.encode(), "[Content_Types].xml": xml.encode()})


@pytest.mark.parametrize(
    ("name", "data", "code", "says"),
    [
        ("a.zip", bomb(), "too_large", "unpack to 50000000 bytes"),
        ("a.zip", lying_bomb(), "broken", "does not unpack"),
        ("a.zip", made.zipped({"../../etc/passwd.txt": b"x"}), "bad_path", "leads out"),
        ("a.zip", made.zipped({"/etc/passwd.txt": b"x"}), "bad_path", "leads out"),
        ("a.zip", encrypted_zip(), "encrypted", "password"),
        ("a.zip", made.zipped({"b.zip": made.zipped({"c.zip": made.zipped({"d.zip": made.zipped({"e.txt": b"x"})})})}),
         "too_large", "nested"),
        ("a.zip", made.zipped({"b.docm": b"x"}), "macros", "b.docm"),
        ("a.zip", b"PK\x03\x04 and nothing", "broken", "no whole ZIP"),
        ("a.zip", made.zipped({f"{n}.txt": b"" for n in range(10_001)}, deflate=False), "too_large", "10000 files"),
        ("a.pdf", made.pdf(["x"] * 10_000), "too_many_pages", "10000 pages, 5000"),
        ("a.pdf", encrypted_pdf(), "encrypted", "password"),
        ("a.pdf", made.pdf(["", ""]), "no_text", "2 pages hold no text"),
        ("a.pdf", made.pdf(["text"])[:200], "broken", "damaged"),
        ("a.pdf", b"just text", "wrong_type", "named .pdf"),
        ("a.txt", made.pdf(["x"]), "wrong_type", "something else"),
        ("a.txt", b"MZ\x90\x00binary", "wrong_type", "something else"),
        ("a.txt", b"a\x00b", "wrong_type", "NUL"),
        ("a.docx", made.xlsx(ROWS), "wrong_type", "word/document.xml"),
        ("a.docx", with_macros(), "macros", "macros"),
        ("a.docm", with_macros(), "macros", "docm"),
        ("a.docx", b"\xd0\xcf\x11\xe0" + "EncryptedPackage".encode("utf-16-le"), "encrypted", "password"),
        ("a.docx", b"\xd0\xcf\x11\xe0 old", "wrong_type", "old binary"),
        ("a.docx", entities(), "broken", "damaged"),
        ("a.epub", made.zipped({"x": b""}), "broken", "META-INF"),
        ("a.exe", b"MZ", "unsupported_type", "a.exe"),
        ("README", b"text", "unsupported_type", "README"),
        ("a.jsonl", b'{"a": 1}\n{', "broken", "line 2"),
        ("a.json", b"[" * 100_000, "broken", "JSON"),
        ("a.html", b"<div>" * 100_000 + b"x", "broken", "deep"),
        ("a.md", b"\n \n", "no_text", "no text"),
        ("a.md", b"# only a heading", "no_text", "no text"),
    ],
)  # fmt: skip
def test_a_file_that_is_not_taken_says_why(tmp_path: Path, name: str, data: bytes, code: str, says: str) -> None:
    found, message = refused(tmp_path, name, data)
    assert (found, says in message) == (code, True), (found, message)
    assert {path.name for path in tmp_path.iterdir()} <= {"source", "parsed.json"}, "nothing else is left behind"


def test_a_file_that_takes_too_long_or_too_much_memory_fails_alone(tmp_path: Path) -> None:
    rows = "\n".join(f"{n};{'x' * 50}" for n in range(300_000)).encode()
    assert refused(tmp_path, "a.csv", rows, parse_seconds=0.05)[0] == "too_slow"
    code, message = refused(tmp_path, "a.csv", rows * 4, parse_memory_mib=256)
    assert (code, "256 MiB" in message) == ("parser_died", True)


def test_a_file_is_parsed_once(tmp_path: Path) -> None:
    first = parsed(tmp_path, "a.txt", b"one")
    (tmp_path / "source").write_bytes(b"two")
    again = asyncio.run(parse(tmp_path / "source", "a.txt", tmp_path / "parsed.json", KnowledgeTable()))
    assert again == first


PRICES = [["Part", "Price", "Stock"], ["Bolt | M8", "1.20", "300"], ["Nut", "", "7"]]


def test_a_table_of_a_pdf_is_a_markdown_table_in_its_place(tmp_path: Path) -> None:
    found = parsed(tmp_path, "a.pdf", made.ruled_pdf("Prices of parts.", PRICES, "Valid until May."))
    table = "| Part | Price | Stock |\n| --- | --- | --- |\n| Bolt \\| M8 | 1.20 | 300 |\n| Nut |  | 7 |"
    assert [(one["kind"], one["text"], one["page"]) for one in found["blocks"]] == [
        ("text", "Prices of parts.", 1), ("grid", table, 1), ("text", "Valid until May.", 1),
    ]  # fmt: skip


def test_each_piece_of_a_long_table_has_the_names_above_it(tmp_path: Path) -> None:
    rows = [["Part", "Price"], *([f"Bolt number {n}", f"{n}.00"] for n in range(30))]
    blocks = parsed(tmp_path, "a.pdf", made.ruled_pdf("Prices.", rows, "End."))["blocks"]
    pieces = [one["text"] for one in blocks if one["kind"] == "grid"]
    assert len(pieces) > 2
    assert all(piece.startswith("| Part | Price |\n| --- | --- |\n| Bolt") for piece in pieces)
    assert all(len(piece) <= GRID_CHARS for piece in pieces)
    assert [line for piece in pieces for line in piece.split("\n")[2:]] == [f"| {a} | {b} |" for a, b in rows[1:]]
    chunks = list(chunking.cut(blocks, Chunking(), chunking.estimated))
    assert all("| Part | Price |" in chunk.text for chunk in chunks if "Bolt" in chunk.text)


def test_a_page_on_which_tables_cannot_be_looked_for_is_read_as_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("damaged")

    data = made.ruled_pdf("Prices of parts.", PRICES, "Valid until May.")
    for name, value in (("_pieces", broken), ("TABLE_SECONDS", 0.0)):
        with monkeypatch.context() as patched:
            patched.setattr(pdf, name, value)
            out = Blocks()
            pdf.document(data, out)
        assert {one["kind"] for one in out.blocks} == {"text"}
        assert "Bolt | M8" in out.blocks[0]["text"]
