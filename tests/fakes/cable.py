"""A network cable between two processes of a test: it can be cut, so that bytes vanish in silence, and mended again."""

from __future__ import annotations

import selectors
import socket
import threading
from contextlib import suppress
from typing import Self

from tests.processes import free_port

_PIECE = 65_536


class Cable:
    """Listens on a port of loopback and passes all on to another one. While it is cut, nothing passes and nobody is
    told, as with a firewall that drops packets; once it is mended, connections of before are reset.
    """

    def __init__(self, port: int) -> None:
        self._to, self.port = port, free_port()
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._pairs: dict[socket.socket, socket.socket] = {}
        self._changes = threading.Lock()
        self._cut = self._over = False
        self._selector = selectors.DefaultSelector()
        self._wake, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name=f"cable-{port}", daemon=True)

    def __enter__(self) -> Self:
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True
        self._wake.send(b"x")
        self._thread.join(10)
        for one in (*self._pairs, self._listener, self._wake, self._woken):
            one.close()
        self._selector.close()

    def cut(self) -> None:
        """From now on nothing passes."""
        with self._changes:
            self._cut = True

    def mend(self) -> None:
        """New connections pass again; those of before are gone."""
        with self._changes:
            for one in tuple(self._pairs):
                self._end(one)
            self._cut = False
        self._wake.send(b"x")

    def _run(self) -> None:
        while not self._over:
            for key, _ in self._selector.select(0.05):
                one = key.fileobj
                assert isinstance(one, socket.socket)
                if one is self._woken:
                    one.recv(1)
                    continue
                with self._changes:
                    if not self._cut:
                        self._accept() if one is self._listener else self._pass(one)
            if self._cut:
                self._woken.settimeout(0.02)
                with suppress(TimeoutError):
                    self._woken.recv(1)

    def _accept(self) -> None:
        near, _ = self._listener.accept()
        try:
            far = socket.create_connection(("127.0.0.1", self._to), 5)
        except OSError:  # nobody is there: as if the port itself had refused
            near.close()
            return
        for one, other in ((near, far), (far, near)):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._pairs[one] = other
            self._selector.register(one, selectors.EVENT_READ)

    def _pass(self, one: socket.socket) -> None:
        other = self._pairs.get(one)
        if other is None:
            return
        try:
            if piece := one.recv(_PIECE):
                other.sendall(piece)
                return
        except OSError:
            pass
        self._end(one)

    def _end(self, one: socket.socket) -> None:
        other = self._pairs.pop(one, None)
        if other is None:
            return
        self._pairs.pop(other, None)
        for half in (one, other):
            self._selector.unregister(half)
            half.close()
