"""Pages that are pictures: drawn here, scanned askew and noisy, and read by the real models."""

from __future__ import annotations

import difflib
import io
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from pypdf import PdfReader, PdfWriter

from control.knowledge.parse import pdf, scanned
from control.knowledge.parse.blocks import Blocks, Refused
from control.knowledge.parse.scanned import Piece, in_order
from tests.control.knowledge.test_parse import parsed, refused
from tests.fakes import documents as made

LEAVE = [
    "Every employee has thirty days of leave a year.",
    "Leave is asked for two weeks before it begins.",
    "Days that are not taken end in March.",
]
CHINESE = ["每位员工每年享有三十天带薪年假。", "请假须提前两周提出书面申请。", "未休的年假于次年三月底失效。"]
FONTS = sorted(Path("/usr/share/fonts/opentype/noto").glob("NotoSansCJK-Regular.ttc"))


def page(*columns: Sequence[str], angle: float = 0.6) -> Image.Image:
    """A page of A4 at 150 dots per inch with columns of lines, a little askew, blurred and with noise on it."""
    picture = Image.new("L", (1240, 1754), 255)
    draw = ImageDraw.Draw(picture)
    for number, lines in enumerate(columns):
        for row, line in enumerate(lines):
            font = ImageFont.load_default(26) if line.isascii() else ImageFont.truetype(FONTS[0], 28)
            draw.text((90 + number * 560, 120 + row * 60), line, fill=0, font=font)
    picture = picture.rotate(angle, fillcolor=255, expand=False).filter(ImageFilter.GaussianBlur(0.6))
    noise = random.Random(7)
    for _ in range(3000):
        picture.putpixel((noise.randrange(1240), noise.randrange(1754)), noise.randrange(256))
    return picture


def scan(*pages: Image.Image) -> bytes:
    """A PDF of pictures."""
    out = io.BytesIO()
    pages[0].save(out, "PDF", resolution=150, save_all=True, append_images=pages[1:])
    return out.getvalue()


def likeness(found: str, wanted: str) -> float:
    """How much of a text is right, from 0 to 1; spaces do not count."""
    return difflib.SequenceMatcher(None, "".join(found.split()), "".join(wanted.split()), autojunk=False).ratio()


def test_scanned_pages_are_read_and_keep_their_numbers_among_others(tmp_path: Path) -> None:
    writer = PdfWriter()
    pages = [page(LEAVE), page(CHINESE)] if FONTS else [page(LEAVE)]
    for source in (made.pdf(["A page of text that needs no recognition at all, to be sure."]), scan(*pages)):
        for one in PdfReader(io.BytesIO(source)).pages:
            writer.add_page(one)
    out = io.BytesIO()
    writer.write(out)
    blocks = parsed(tmp_path, "a.pdf", out.getvalue())["blocks"]
    told = {number: "\n".join(one["text"] for one in blocks if one["page"] == number) for number in (1, 2, 3)}
    assert told[1] == "A page of text that needs no recognition at all, to be sure."
    assert likeness(told[2], "".join(LEAVE)) > 0.97, told[2]
    if not FONTS:
        pytest.skip("no font for Chinese on this machine: the Chinese page was not drawn")
    assert likeness(told[3], "".join(CHINESE)) > 0.97, told[3]


def test_columns_are_read_one_after_the_other(tmp_path: Path) -> None:
    right = ["The forklift is serviced", "every five hundred hours,", "and its oil is changed."]
    found = parsed(
        tmp_path, "a.pdf", scan(page(["Days that are not taken", "end in March, unless", "asked for."], right))
    )
    said = "\n".join(one["text"] for one in found["blocks"])
    assert said.index("asked for") < said.index("The forklift"), said


def test_a_picture_without_text_is_refused(tmp_path: Path) -> None:
    code, message = refused(tmp_path, "a.pdf", scan(page([])))
    assert (code, "in which none was recognised" in message) == ("no_text", True)


def test_more_memory_than_allowed_ends_the_reading_alone(tmp_path: Path) -> None:
    code, message = refused(tmp_path, "a.pdf", scan(page(LEAVE)), parse_memory_mib=512)
    assert code in ("parser_died", "broken"), message


def test_without_the_extra_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanned, "available", False)
    with pytest.raises(Refused, match="OCR is not installed"):
        pdf.document(scan(page(LEAVE)), Blocks())


def piece(text: str, left: float, top: float, width: float = 100) -> Piece:
    return Piece(left, top, left + width, top + 10, text)


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ([], ""),
        ([piece("b", 110, 1), piece("a", 0, 0)], "a b"),
        ([piece("b", 0, 15), piece("a", 0, 0)], "a\nb"),
        ([piece("b", 0, 40), piece("a", 0, 0)], "a\n\nb"),
        # a title over two columns, then a line below both
        (
            [
                piece("title", 0, 0, 300), piece("a", 0, 30), piece("c", 200, 30), piece("b", 0, 44),
                piece("d", 200, 44), piece("end", 0, 80, 300),
            ],
            "title\n\na\nb\n\nc\nd\n\nend",
        ),
        # one row of a table stays a line
        ([piece("bolt", 0, 0), piece("3", 300, 0)], "bolt 3"),
    ],
)  # fmt: skip
def test_the_order_of_reading(pieces: list[Piece], expected: str) -> None:
    assert in_order(pieces) == expected
