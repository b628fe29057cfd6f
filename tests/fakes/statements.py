"""One memory of compiled SQL statements for all control planes of a test process, as a control plane has one for all
its requests. SQLAlchemy keeps one for each engine, and each test has an engine of its own: without this, compiling the
same few hundred statements again is a fifth of what those tests cost.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import Engine
from sqlalchemy.util import LRUCache

from control.kit.sqlite import Dialect

MOST = 3_000
"""More than the tests of one process compile."""


@contextmanager
def compiled_once() -> Iterator[None]:
    """While this is open, every engine of a SQLite file has what another has compiled."""
    statements: LRUCache[object, object] = LRUCache(MOST)

    def share(engine: Engine) -> None:
        engine._compiled_cache = statements  # type: ignore[assignment]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Dialect, "engine_created", staticmethod(share))
        # a statement is remembered for a dialect: all of this one compile alike
        patch.setattr(Dialect, "__eq__", lambda one, other: type(one) is type(other))
        patch.setattr(Dialect, "__hash__", lambda _: hash(Dialect))
        yield
