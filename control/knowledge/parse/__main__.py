"""Parses one file, in a process of its own with limits: `python -m control.knowledge.parse FILE NAME OUT`.

Writes `{"kind", "pages", "blocks"}` to OUT, or `{"code", "message"}` for a file that is refused; the exit status is 0
for both. Anything else (a time-out, too much memory, a crash of a library) is told by whoever has started it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from control.knowledge.parse import mail, office, pdf, plain, web
from control.knowledge.parse.blocks import Blocks, Refused
from control.knowledge.parse.zipped import Members

_DEEPEST = 2
_PARSERS: dict[str, Callable[[bytes, Blocks], None]] = {
    "txt": plain.text, "md": plain.markdown, "html": web.page, "pdf": pdf.document, "docx": office.word,
    "pptx": office.slides, "xlsx": office.sheets, "csv": plain.comma_separated, "epub": web.book,
    "jsonl": plain.json_lines, "json": plain.json_whole, "code": plain.code,
}  # fmt: skip
_ALIASES = {
    "markdown": "md", "htm": "html", "xhtml": "html", "tsv": "csv", "ndjson": "jsonl", "log": "txt", "rst": "txt",
    "text": "txt",
}  # fmt: skip
_CODE = frozenset({
    "c", "cc", "cpp", "cs", "css", "go", "h", "hpp", "java", "js", "jsx", "kt", "lua", "php", "pl", "proto", "py", "r",
    "rb", "rs", "scala", "sh", "sql", "swift", "toml", "ts", "tsx", "vue", "xml", "yaml", "yml",
})  # fmt: skip
_MACROS = frozenset({"docm", "dotm", "xlsm", "xltm", "pptm", "potm"})
_SIGNED = {"pdf": (b"%PDF-",), "docx": (b"PK",), "pptx": (b"PK",), "xlsx": (b"PK",), "epub": (b"PK",), "zip": (b"PK",)}
_OLE = b"\xd0\xcf\x11\xe0"


def kind_of(name: str) -> str:
    """What a file is, by the end of its name.

    Raises:
        Refused: `unsupported_type` or `macros`.
    """
    ending = name.rpartition(".")[2].lower() if "." in name else ""
    ending = _ALIASES.get(ending, ending)
    if ending in _MACROS:
        raise Refused("macros", f".{ending} holds macros: save it without (as .docx, .xlsx or .pptx)")
    if ending in _CODE:
        return "code"
    if ending in _PARSERS or ending in ("zip", "eml"):
        return ending
    raise Refused(
        "unsupported_type", f"{name[-60:]!r} ends with no type that is read here: docs/knowledge.md lists them"
    )


def parse(name: str, data: bytes, out: Blocks, level: int = 0) -> str:
    """Add the blocks of a file; what it was. `level`: how many archives it is in."""
    kind = kind_of(name)
    if data.startswith(_OLE) and kind in _SIGNED:
        if "EncryptedPackage".encode("utf-16-le") in data:
            raise Refused("encrypted", "it needs a password: save it without")
        raise Refused("wrong_type", "it is in Office's old binary form: save it as .docx, .xlsx or .pptx")
    head = data[:1024].lstrip() if kind == "pdf" else data
    if kind in _SIGNED and not head.startswith(_SIGNED[kind]):
        raise Refused("wrong_type", f"it is named .{kind}, but is none")
    if kind not in _SIGNED and data.startswith((b"%PDF-", b"PK\x03\x04", b"\x7fELF", b"MZ\x90", b"\x89PNG", b"GIF8")):
        raise Refused("wrong_type", f"it is named as .{kind}, but is something else")

    def inner(path: str, content: bytes) -> None:
        _inside(path, content, out, level + 1)

    if kind == "eml":
        mail.message(data, out, inner)
    elif kind == "zip":
        members = Members(data)
        for path in members:
            inner(path, members.read(path))
    else:
        _PARSERS[kind](data, out)
    return kind


def _inside(path: str, data: bytes, out: Blocks, level: int) -> None:
    """A file of an archive or a mail: its path is a heading. What is of no known type, such as a picture, is left."""
    name = PurePosixPath(path).name
    try:
        kind_of(name)
    except Refused as exc:
        if exc.code == "unsupported_type":
            return
        raise Refused(exc.code, f"{path[:200]}: {exc}") from exc
    if level > _DEEPEST:
        raise Refused("too_large", f"{path[:200]}: archives are nested more than {_DEEPEST} deep")
    out.heading(path, 1)
    out.depth += 1
    try:
        parse(name, data, out, level)
    except Refused as exc:
        if exc.code != "no_text":
            raise Refused(exc.code, f"{path[:200]}: {exc}") from exc
    finally:
        out.depth -= 1


def main(path: Path, name: str, target: Path) -> None:
    """Parse a file and write what came of it."""
    out = Blocks()
    try:
        out.kind = parse(name, path.read_bytes(), out)
        if not any(block["kind"] != "heading" for block in out.blocks):
            raise Refused("no_text", "there is no text in it")
        result: dict[str, object] = {"kind": out.kind, "pages": out.pages, "blocks": out.blocks}
    except Refused as exc:
        result = {"code": exc.code, "message": str(exc)[:900]}
    except MemoryError:
        raise  # of the limit, and no fault of the file's
    except Exception as exc:  # noqa: BLE001 - of a damaged file, the libraries raise whatever its parts lead to
        result = {"code": "broken", "message": f"it is damaged: {type(exc).__name__}: {exc}"[:900]}
    partial = target.with_name(target.name + ".partial")
    with partial.open("w", encoding="utf-8") as file:
        json.dump(result, file, ensure_ascii=False)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(target)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
