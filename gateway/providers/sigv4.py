"""AWS Signature Version 4 of JSON requests, and the short-lived keys that may sign them.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html (read 2026-11)
"""

from __future__ import annotations

import calendar
import hashlib
import hmac
import re
import time
from typing import NamedTuple
from urllib.parse import quote, urlencode

from gateway.providers.auth import Ask, Lines, NotReady

_TAG = re.compile(rb"<(AccessKeyId|SecretAccessKey|SessionToken|Expiration)>([^<]+)</")


class Keys(NamedTuple):
    """What signs."""

    access: str
    secret: str
    session: str | None = None


def signature(keys: Keys, scope: tuple[str, str], host: str, path: str, query: str, body: bytes, now: float) -> Lines:
    """The header lines that sign a POST. `scope` is (region, service); `path` is as it goes over the wire, and is
    encoded once more for the signature, as all services but S3 do.
    """
    region, service = scope
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    signed = {"host": host, "x-amz-date": stamp}
    if keys.session is not None:
        signed["x-amz-security-token"] = keys.session
    names = ";".join(sorted(signed))
    canonical = "\n".join(
        [
            "POST",
            quote(path, safe="/-_.~"),
            query,
            *(f"{name}:{signed[name]}" for name in sorted(signed)),
            "",
            names,
            hashlib.sha256(body).hexdigest(),
        ]
    )
    place = f"{stamp[:8]}/{region}/{service}/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", stamp, place, hashlib.sha256(canonical.encode()).hexdigest()])
    key = ("AWS4" + keys.secret).encode()
    for part in (stamp[:8], region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    proof = hmac.digest(key, text.encode(), "sha256").hex()
    authorization = f"AWS4-HMAC-SHA256 Credential={keys.access}/{place}, SignedHeaders={names}, Signature={proof}"
    lines = {name: value for name, value in signed.items() if name != "host"} | {"authorization": authorization}
    return b"".join(f"{name}: {value}\r\n".encode() for name, value in lines.items())


class SigV4:
    """Signs each request, by keys that stay or by keys that a role lends. See `gateway.providers.auth.Auth`."""

    def __init__(self, keys: Keys, region: str, host: str, renewal: AssumeRole | None = None) -> None:
        self._keys = keys
        self._region = region
        self._host = host
        self.renewal = renewal

    def lines(self, path: bytes, body: bytes, now: float) -> Lines:
        """See `Auth`."""
        keys = self._keys
        if self.renewal is not None:
            if self.renewal.fetched is None or now >= self.renewal.expires_at:
                raise NotReady
            keys = self.renewal.fetched
        plain, _, query = path.decode("ascii").partition("?")
        return signature(keys, (self._region, "bedrock"), self._host, plain, query, body, now)


class AssumeRole:
    """Keys of a role, from AWS's Security Token Service. See `gateway.providers.auth.Renewal`.

    https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html (read 2026-11)
    """

    def __init__(self, keys: Keys, region: str, role: str, url: str) -> None:
        self.identity = f"sts {keys.access} {role} {region}"
        self.fetched: Keys | None = None
        self.expires_at = 0.0
        self._keys, self._region, self._role, self._url = keys, region, role, url

    def ask(self, now: float) -> Ask:
        """Signed by the keys that stay."""
        form = {"Action": "AssumeRole", "Version": "2011-06-15", "RoleArn": self._role, "RoleSessionName": "tunegate"}
        body = urlencode(form).encode()
        host = self._url.partition("://")[2].partition("/")[0]
        lines = signature(self._keys, (self._region, "sts"), host, "/", "", body, now)
        headers = dict(line.split(": ", 1) for line in lines.decode().split("\r\n") if line)
        return Ask(self._url + "/", {"content-type": "application/x-www-form-urlencoded", **headers}, body)

    def adopt(self, other: AssumeRole) -> None:
        """See `Renewal`."""
        self.fetched, self.expires_at = other.fetched, other.expires_at

    def take(self, body: bytes, now: float) -> None:
        """The keys of its XML answer."""
        found = {tag.decode(): value.decode() for tag, value in _TAG.findall(body)}
        try:
            keys = Keys(found["AccessKeyId"], found["SecretAccessKey"], found["SessionToken"])
            ends = time.strptime(found["Expiration"][:19] + "UTC", "%Y-%m-%dT%H:%M:%S%Z")
        except (KeyError, ValueError) as exc:
            raise ValueError("the answer holds no keys") from exc
        self.fetched, self.expires_at = keys, float(calendar.timegm(ends))
