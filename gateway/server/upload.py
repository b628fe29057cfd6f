"""The body of a request that is passed on while it arrives: a form with a file in it.

What stands before the first file is read, for the model's name; from then on bytes go to the upstream as they come, and
whoever is slower of client and upstream makes the other wait. The first HOLD bytes are kept, so that an upload up to
that size can be tried again. Where the model's name comes after the file, the file goes to disk until it has come.
"""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from gateway.errors import GatewayError
from gateway.protocols.multipart import Form, Span
from gateway.server.running import Moment

HOLD = 262_144
"""Bytes that are kept in memory."""
BLOCK = 262_144


class Disk:
    """Where uploads wait whose model comes after the file; `left` bytes for all of a worker's together."""

    def __init__(self, folder: Path, most: int) -> None:
        self.folder = folder
        self.left = most


class Client(Protocol):
    """The connection that the body arrives on."""

    def pause_upload(self) -> None:
        """Read no more for now."""
        ...

    def resume_upload(self) -> None:
        """Read on."""
        ...


class Out(Protocol):
    """Where the body goes."""

    blocked: bool
    """It takes no more for now; `Upload.pump` is called when it does."""

    def pass_on(self, data: bytes) -> None:
        """Send bytes of the body."""
        ...


class Upload:
    """See the module. `size` is the stated length of the body, None if it is chunked."""

    def __init__(self, client: Client, form: Form, size: int | None, most: int, disk: Disk, moment: Moment) -> None:
        self._client = client
        self._most = most
        self.form = form
        self.size = size
        self.known = moment
        """Comes when all that stands before the first file has been read, with the model's name among it; or a
        GatewayError does."""
        self.complete = False
        """The client has sent all of it."""
        self.spent = False
        """Bytes went out that are not kept: it cannot be sent again."""
        self.problem: GatewayError | None = None
        """Why the rest will not come, or must not be passed on."""
        self.on_broken: Callable[[GatewayError], None] | None = None
        """Told when the rest will not come, or must not be passed on, while it is being sent."""
        self._needs_model = True
        self._held = tempfile.SpooledTemporaryFile(2 * HOLD, dir=str(disk.folder))  # noqa: SIM115  (closed by `close`)
        self._held_size = 0
        self._disk = disk
        self._on_disk = 0
        self._passing = False
        """From here on nothing is held any more."""
        self._later: deque[bytes] = deque()
        """What arrived and is not held: at most what one read brings, since the client is paused then."""
        self._received = 0
        self._sent = 0
        """Of the held bytes, how many went to `_out`, the model's old name counted for the new one."""
        self._out: Out | None = None
        self._model: tuple[Span, bytes] | None = None
        self._closed = False

    def need_no_model(self) -> None:
        """It is enough to know the fields before the first file."""
        self._needs_model = False

    # --- the client's side

    def feed(self, data: bytes) -> None:
        """More of the body has arrived."""
        if self._closed or self.problem is not None:
            return
        self._received += len(data)
        try:
            if self._received > self._most:
                text = f"The upload exceeds {self._most} bytes."
                raise GatewayError("caller_too_large", text)
            self.form.feed(data)
            self._passing = self._passing or (self.known.done and self._held_size + len(data) > HOLD)
            self._know()
            if self._passing:
                self._later.append(data)
            else:
                self._hold(data)
        except GatewayError as error:
            self.broken(error)
            return
        self.pump()

    def end(self) -> None:
        """The client has sent all."""
        self.complete = True
        if self._closed or self.problem is not None:
            return
        try:
            self.form.end()
        except GatewayError as error:
            self.broken(error)
            return
        self._know()
        self.pump()

    def broken(self, error: GatewayError) -> None:
        """The rest will not come, or must not be passed on."""
        self.problem = error
        if not self.known.done:
            self.known.come(error)
        elif self.on_broken is not None and not self._closed:
            self.on_broken(error)

    def left(self) -> None:
        """The client is gone before all was read that must be known."""
        self.broken(GatewayError("caller_bad_request", "The client left before its request had arrived."))

    def _hold(self, data: bytes) -> None:
        """Memory takes HOLD bytes, and the read with which all is known; what waits beyond that is on disk."""
        if self._held_size + len(data) > HOLD and not self.known.done:
            if self._disk.left < len(data):
                raise _no_room()
            self._disk.left -= len(data)
            self._on_disk += len(data)
        try:
            self._held.seek(0, 2)
            self._held.write(data)
        except OSError as exc:
            raise _no_room() from exc
        self._held_size += len(data)

    def _know(self) -> None:
        ready = self.form.ended or (self.form.file_begun and (not self._needs_model or "model" in self.form.fields))
        if ready and not self.known.done:
            self.known.come()

    # --- the upstream's side

    def rename(self, model: str) -> int | None:
        """Send this as the model's name; the length that the body has then, None if it is not known."""
        span, new = self.form.spans["model"], model.encode()
        self._model = span, new
        return None if self.size is None else self.size - (span.end - span.start) + len(new)

    def attach(self, out: Out) -> None:
        """Send to `out` from the beginning. Only as long as it is not `spent`."""
        assert not self.spent
        self._out, self._sent = out, 0
        self.pump()

    def detach(self) -> None:
        """Nobody wants it any more, for now."""
        self._out = None

    @property
    def passed(self) -> bool:
        """Everything has gone out."""
        return self.complete and self._sent >= self._held_size and not self._later

    def pump(self) -> None:
        """Send what there is, as long as it is taken; then let the client go on, or wait."""
        if self._closed:
            return
        while self._out is not None and not self._out.blocked:
            block = self._next()
            if not block:
                break
            self._out.pass_on(block if self.size is not None else b"%x\r\n%b\r\n" % (len(block), block))
        if self._out is not None and self.size is None and self.passed:
            self._out.pass_on(b"0\r\n\r\n")
            self._out = None
        if not self.complete:
            full = self._later or (self.known.done and self._held_size >= HOLD and not self._flowing)
            (self._client.pause_upload if full else self._client.resume_upload)()

    @property
    def _flowing(self) -> bool:
        return self._out is not None and not self._out.blocked

    def _next(self) -> bytes:
        """The next bytes to send, empty if there are none yet."""
        if self._sent >= self._held_size:
            if not self._later:
                return b""
            self.spent = True
            return self._later.popleft()
        most = self._held_size - self._sent
        if self._model is not None:
            span, new = self._model
            if self._sent == span.start:
                self._sent = span.end
                return new
            if self._sent < span.start:
                most = span.start - self._sent
        self._held.seek(self._sent)
        block = self._held.read(min(BLOCK, most))
        self._sent += len(block)
        return block

    def close(self) -> None:
        """The request is over; what still arrives is nobody's."""
        if not self._closed:
            self._disk.left += self._on_disk
        self._closed = True
        self._out = None
        self._later.clear()
        self._held.close()
        if not self.complete:
            self._client.resume_upload()


def _no_room() -> GatewayError:
    text = "The gateway has no room to keep the upload. Put `model` before the file: then nothing is kept."
    return GatewayError("tunegate_overloaded", text)
