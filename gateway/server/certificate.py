"""The listener's certificate: when it expires, and the files looked at again, so that a renewal needs no restart."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path

log = logging.getLogger("gateway.server")

Stamp = tuple[tuple[int, int, int], ...]


class Certificate:
    """A PEM chain and its key in files. Connections that exist keep what they began with.

    Raises:
        OSError, ValueError: the files cannot be read, are no PEM, or do not belong together (which is an SSLError, and
            that an OSError).
    """

    def __init__(self, chain: Path, key: Path | None) -> None:
        self._chain, self._key = chain, key
        self._seen = self._stamp()
        """Of the files as they were looked at last, good or not."""
        self._context, self.expires = self._load()
        """`expires`: when the first of the chain does, in Unix seconds."""

    def follow(self, listening: ssl.SSLContext) -> None:
        """Take over what has been renewed, for handshakes of this context from now on; call it once a second. Files
        that are no good, or written half, change nothing: the log says why, once for each state of them.
        """
        try:
            stamp = self._stamp()
        except OSError as exc:
            if self._seen:
                self._seen = ()
                self._refused(exc)
            return
        if stamp == self._seen:
            return
        self._seen = stamp
        try:
            self._context, self.expires = self._load()
        except (OSError, ValueError) as exc:
            self._refused(exc)
            return
        # not by loading them into `listening`: where the key does not fit, that would be left with half of them
        listening.sni_callback = self._hand_over
        data = {"file": str(self._chain), "expires": int(self.expires)}
        log.info("listener.certificate_renewed", extra={"data": data})

    def _hand_over(self, connection: ssl.SSLSocket | ssl.SSLObject, _name: str, _listening: ssl.SSLContext) -> None:
        connection.context = self._context

    def _stamp(self) -> Stamp:
        found = [path.stat() for path in (self._chain, self._key) if path is not None]
        return tuple((one.st_mtime_ns, one.st_size, one.st_ino) for one in found)

    def _load(self) -> tuple[ssl.SSLContext, float]:
        from cryptography.x509 import load_pem_x509_certificates  # noqa: PLC0415  (a listener without TLS needs none)

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._chain, self._key, password="")  # never asks a terminal
        chain = load_pem_x509_certificates(self._chain.read_bytes())
        return context, min(one.not_valid_after_utc for one in chain).timestamp()

    def _refused(self, exc: Exception) -> None:
        data = {"file": str(self._chain), "problem": str(exc), "kept_until": int(self.expires)}
        log.error("listener.certificate_refused", extra={"data": data})
