"""Mail: its head, its text, and the files that are attached."""

from __future__ import annotations

from collections.abc import Callable
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser

from control.knowledge.parse import web
from control.knowledge.parse.blocks import Blocks

_HEAD = ("Subject", "From", "To", "Cc", "Date")


def message(data: bytes, out: Blocks, inner: Callable[[str, bytes], None]) -> None:
    """One message; `inner` is called for every file that is attached."""
    parsed = BytesParser(policy=policy.default).parsebytes(data)
    assert isinstance(parsed, EmailMessage)
    if subject := str(parsed.get("Subject", "")):
        out.heading(subject, 1)
    out.text("\n".join(f"{name}: {parsed[name]}" for name in _HEAD if parsed[name]))
    body = parsed.get_body(preferencelist=("plain", "html"))
    if isinstance(body, EmailMessage):
        content = body.get_content()
        if body.get_content_type() == "text/html":
            web.page(content.encode(), out)
        else:
            out.text(content)
    for part in parsed.iter_attachments():
        content = part.get_payload(decode=True)
        if isinstance(content, bytes) and part.get_filename():
            inner(str(part.get_filename()), content)
