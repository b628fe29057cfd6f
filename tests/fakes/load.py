"""A small load: client threads that ask, read byte by byte what came, and remember what each request met."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.fakes.gateway import KEY, chat_request, new_id
from tests.fakes.http import Connection


@dataclass
class Asked:
    """One request of the load, as its client saw it."""

    rid: str
    prompt: int
    completion: int
    stream: bool
    aborted: bool = False
    """The client left on purpose."""
    unheard: bool = False
    """It left before anything came back: the gateway may never have read the request."""
    whole: bool = False
    """A success that came to its proper end."""
    status: int = 0
    trouble: str = ""


@dataclass
class Load:
    """`clients` threads that ask until `stop`. `url` is a function: a restarted gateway has a new one."""

    url: Callable[[], str]
    model: str
    clients: int = 8
    aborts: float = 0.0
    seed: int = 1
    pause: float = 0.0
    asked: list[Asked] = field(default_factory=list)
    finished: int = 0

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._client, args=(n,), daemon=True) for n in range(self.clients)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(20)

    def _client(self, number: int) -> None:
        dice = random.Random(self.seed * 1000 + number)
        conn: Connection | None = None
        while not self._stop.is_set():
            one = Asked(new_id(), dice.randint(1, 500), dice.randint(1, 500), dice.random() < 0.6)
            one.aborted = dice.random() < self.aborts
            try:
                conn = conn or Connection(self.url(), timeout=10)
                conn = self._one(conn, one, dice)
            except (OSError, AssertionError, ValueError) as exc:
                one.trouble = type(exc).__name__
                if conn is not None:
                    conn.close()
                conn = None
                time.sleep(0.02)
            self.finished += 1
            if self.pause:
                time.sleep(self.pause)
        if conn is not None:
            conn.close()

    def _one(self, conn: Connection, one: Asked, dice: random.Random) -> Connection | None:
        words = dice.randint(1, 6)
        wish = {
            "prompt": one.prompt,
            "completion": one.completion,
            "words": words,
            "gap": dice.random() * 0.01,
        }
        body = json.dumps(chat_request(self.model, stream=one.stream, user=one.rid, metadata=wish)).encode()
        headers = {"authorization": f"Bearer {KEY}", "x-request-id": one.rid}
        self.asked.append(one)
        conn.request("POST", "/v1/chat/completions", body, headers)
        if one.aborted:
            one.unheard = dice.random() < 0.3
            if not one.unheard:
                conn.response(stop=1)
            (conn.abort if dice.random() < 0.5 else conn.close)()
            return None
        reply = conn.response()
        one.status = reply.status
        done = not one.stream or reply.body.endswith(b"data: [DONE]\n\n")
        one.whole = reply.status == 200 and reply.complete and done
        if not reply.complete:
            one.trouble = "cut"
        if conn.eof or not reply.complete:
            conn.close()
            return None
        return conn
