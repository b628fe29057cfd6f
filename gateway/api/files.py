"""/v1/files and /v1/batches, as OpenAI has them, and responses that an upstream keeps.

No model says where they go: see `gateway.routing.places`. Lists are answered from what the gateway has noted of its
caller's objects, since the provider's own would hold the objects of everybody with whom the caller shares the account.
"""

from __future__ import annotations

import re
from functools import partial
from urllib.parse import unquote

from gateway.api.body import parse_object
from gateway.context import Call, Operation
from gateway.errors import GatewayError
from gateway.kept import is_ours

_URL = re.compile(rb"/v1/(file|batche|response)s/([^/?]{1,300})(/[a-z_]+)?(?:\?(.*))?")
_OPERATIONS = {
    (b"GET", b"file", b""): "file_get",
    (b"DELETE", b"file", b""): "file_delete",
    (b"GET", b"file", b"/content"): "file_content",
    (b"GET", b"batche", b""): "batch_get",
    (b"POST", b"batche", b"/cancel"): "batch_cancel",
    (b"GET", b"response", b""): "response_get",
    (b"DELETE", b"response", b""): "response_delete",
    (b"GET", b"response", b"/input_items"): "response_items",
    (b"POST", b"response", b"/cancel"): "response_cancel",
}
MOST_FILES, MOST_BATCHES = 10_000, 100
"""Of a page of a list."""


def _call(identity: str, query: bytes = b"") -> Call:
    """A call that is about an object, and about no model until its place is found."""
    return Call(
        model="",
        stream=False,
        wants_usage=False,
        prompt_estimate=0,
        output_estimate=0,
        bounded=True,
        document={},
        encoded_model=b'""',
        object=identity,
        query=query,
    )


def _about(_: bytes, identity: str, query: bytes) -> Call:
    """The URL says it all."""
    return _call(identity, query)


def match(method: bytes, url: bytes) -> Operation | None:
    """The operation on one file, batch or response, or None if the request is another one. Responses that the gateway
    has written itself are not found here: it has them.
    """
    found = _URL.fullmatch(url)
    name = None if found is None else _OPERATIONS.get((method, found[1], found[3] or b""))
    if found is None or name is None:
        return None
    identity = unquote(found[2].decode("latin-1"))
    if is_ours(identity):
        return None
    accept = b"*/*" if name in ("file_content", "response_get") else b"application/json"
    parse = partial(_about, identity=identity, query=found[4] or b"")
    return Operation(name, url, parse, method=method, stored=True, accept=accept)


def parse_batch(body: bytes) -> Call:
    """A batch goes where its input file is."""
    identity = parse_object(body).get("input_file_id")
    if not isinstance(identity, str) or not identity:
        text = "`input_file_id` must be the id of a file that you have uploaded."
        raise GatewayError("caller_bad_request", text, param="input_file_id")
    return _call(identity)


def form(_: dict[str, str]) -> Call:
    """A new file."""
    return _call("")


FILE_CREATE = Operation("file_create", b"/v1/files", parse_batch, form=form, stored=True)
BATCH_CREATE = Operation("batch_create", b"/v1/batches", parse_batch, stored=True)
