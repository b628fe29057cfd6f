"""AWS Bedrock by its Converse API, signed by keys, by the keys of a role, or with a Bedrock API key.

https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStream.html (read 2026-11)
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import Any

from gateway.errors import Header
from gateway.protocols.base import Outbound
from gateway.protocols.canonical import Usage
from gateway.protocols.converse import Converse
from gateway.protocols.converse.reply import read_usage
from gateway.protocols.tasks import embeddings, rerank
from gateway.providers.auth import Auth, credential_object
from gateway.providers.base import Provider, Wire
from gateway.providers.sigv4 import AssumeRole, Keys, SigV4

_REGION = re.compile(r"bedrock-runtime(?:-fips)?\.([a-z0-9-]+)\.amazonaws\.com")


class Bedrock(Provider):
    """See `gateway.providers.base.Provider`. No client speaks its dialect: everything is translated.

    The credential is `ACCESS_KEY_ID:SECRET_ACCESS_KEY`, a JSON object with these two and perhaps a `role_arn`, or a
    Bedrock API key.
    """

    kind = "bedrock"
    operations: tuple[str, ...] = ("converse", "invoke")
    dialect: Outbound = Converse()
    tasks = MappingProxyType({"embeddings": embeddings.ToBedrock(), "rerank": rerank.ToBedrock()})
    forward_headers = frozenset[bytes]()

    def path(self, operation: str, stream: bool) -> bytes:
        """Path below https://bedrock-runtime.REGION.amazonaws.com."""
        if operation == "invoke":
            return b"/model/{model}/invoke"
        return b"/model/{model}/converse-stream" if stream else b"/model/{model}/converse"

    def headers(self, api_key: str | None) -> tuple[Header, ...]:
        """A Bedrock API key is a bearer; all else is signed."""
        plain = api_key and ":" not in api_key and not api_key.startswith("{")
        return ((b"authorization", b"Bearer " + api_key.encode()),) if api_key and plain else ()

    def auth(self, api_key: str | None, host: str, options: dict[str, Any]) -> Auth | None:
        """Keys that stay, or a role's."""
        given = credential_object(api_key or "", "access_key_id", "secret_access_key")
        if given is None and (not api_key or ":" not in api_key):
            return None
        if given is None:
            access, _, secret = (api_key or "").partition(":")
            given = {"access_key_id": access, "secret_access_key": secret}
        region = str(options.get("region") or "")
        found = _REGION.fullmatch(host)
        if not region and found is None:
            raise ValueError("set the option `region`: the host does not tell it")
        region = region or (found[1] if found else "")
        keys = Keys(given["access_key_id"], given["secret_access_key"], given.get("session_token"))
        role = given.get("role_arn")
        url = given.get("sts_url", f"https://sts.{region}.amazonaws.com")
        return SigV4(keys, region, host, AssumeRole(keys, region, role, url) if role else None)

    def wire(self, operation: str) -> Wire | None:
        """Nothing passes through."""
        return None

    def usage(self, raw: dict[str, Any], before: Usage | None = None) -> Usage | None:
        """`usage` of Converse."""
        return read_usage(raw)
