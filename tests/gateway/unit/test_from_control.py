"""Parts of a gateway that runs from control: the cache on disk, keys in pieces, credentials, what budgets learn."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from datetime import UTC, datetime

import pytest
from hypothesis import given, strategies as st

from gateway.contract import snapshot as wire
from gateway.contract.internal import Spent
from gateway.contract.seal import seal
from gateway.errors import ConfigError, GatewayError
from gateway.internal import MAX_BACKOFF, Control, ControlError, Line
from gateway.limits.memory import MemoryLimiter
from gateway.limits.spend import SpendPoll
from gateway.snapshot.cache import Cache
from gateway.snapshot.compile import assemble
from gateway.snapshot.keytable import KeyTable
from gateway.snapshot.secrets import sealed_credential
from tests.fakes.runtime import DIGEST, compiled, route

TOKEN = "st-tg-token"
PAGE = b'{"key":[]}'
NAME = hashlib.sha256(PAGE).hexdigest()


# ---- the cache


def test_a_cache_gives_back_what_it_was_given_and_forgets_pages_that_no_head_names(tmp_path):
    cache = Cache(tmp_path / "c", TOKEN)
    assert cache.head() is None
    cache.keep_page(NAME, PAGE)
    cache.keep_head(b"first\nhead", [NAME])
    assert (cache.head(), cache.page(NAME)) == (b"first\nhead", PAGE)
    assert {p.stat().st_mode & 0o777 for p in (tmp_path / "c").iterdir()} == {0o600}
    assert (tmp_path / "c").stat().st_mode & 0o777 == 0o700
    cache.keep_head(b"second", [])
    assert (cache.head(), cache.page(NAME)) == (b"second", None)


@given(data=st.data())
def test_a_cache_with_any_bit_turned_is_absent(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("cache")
    cache = Cache(folder, TOKEN)
    cache.keep_page(NAME, PAGE)
    cache.keep_head(b'{"version":"v1"}', [NAME])
    file = folder / data.draw(st.sampled_from(["head", f"{NAME}.page"]))
    content = bytearray(file.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    file.write_bytes(content)
    assert cache.head() is None or cache.page(NAME) is None


def test_a_cache_of_another_token_is_absent(tmp_path):
    Cache(tmp_path, TOKEN).keep_head(b"head", [])
    assert Cache(tmp_path, "another").head() is None


# ---- keys in pieces


def keys(*names: str, **fields: object) -> list[wire.Key]:
    return [
        wire.Key.model_validate({"name": name, "sha256": hashlib.sha256(name.encode()).hexdigest(), **fields})
        for name in names
    ]


def test_keys_in_pieces_are_the_keys_at_once():
    whole, parts = KeyTable([]), KeyTable([])
    whole.add(keys("a", "b", "c"))
    first = parts.add(keys("a", "b"))
    parts.add(keys("c"))
    assert parts.records.keys() == whole.records.keys()
    again = KeyTable([])
    again.merge(first)
    assert again.records == first
    assert [*whole.problems, *parts.problems, *again.problems] == []


def test_a_key_may_have_the_secret_that_it_is_rotated_from():
    """As control sends it: the same record, with the old secret and the end of its grace."""
    (new,) = keys("a", limits={"rpm": 2})
    old = new.model_copy(update={"sha256": DIGEST, "expires_at": datetime(2100, 1, 1, tzinfo=UTC)})
    table = KeyTable([], rotating=True)
    table.add([new])
    table.add([old])
    assert table.problems == []
    runtime = assemble(compiled_route(), table)
    made, model = MemoryLimiter(), runtime.routes["m"]
    made.apply(runtime)
    for record in runtime.keys.values():
        made.reserve(record, model, 0, 0, 0)
    with pytest.raises(GatewayError, match="2 requests per minute"):
        made.reserve(record, model, 0, 0, 0)
    strict = KeyTable([])
    strict.add([new, old])
    assert "names must differ" in str(strict.problems)


def compiled_route() -> wire.Snapshot:
    return wire.Snapshot.model_validate({"endpoint": [{"name": "a", "provider": "dummy"}], "route": [route("m")]})


def test_a_name_or_secret_in_two_pages_is_a_mistake():
    table = KeyTable([], rotating=True)
    table.add(keys("a"))
    table.add([keys("a", models=["m"])[0].model_copy(update={"sha256": DIGEST})])
    table.add([keys("a")[0].model_copy(update={"name": "b"})])
    assert [("another key named" in text, "same secret" in text) for _, text in table.problems] == [
        (True, False),
        (False, True),
    ]


# ---- credentials


def head(api_key: str, url: str = "https://up.example/v1") -> wire.Snapshot:
    endpoint = {"name": "up", "provider": "openai", "base_url": url, "api_key": api_key}
    return wire.Snapshot.model_validate({"endpoint": [endpoint]})


def test_a_sealed_credential_is_opened_and_stays_sealed_in_the_spec():
    sealed = seal("sk-0123456789", TOKEN, "up", "https://up.example/v1")
    runtime = assemble(head(sealed), KeyTable([]), sealed_credential(TOKEN))
    assert runtime.endpoints["up"].secrets == (b"sk-0123456789",)
    assert runtime.endpoints["up"].spec.api_key == sealed


@pytest.mark.parametrize(
    ("api_key", "url", "token"),
    [
        (seal("sk-0123456789", TOKEN, "up", "https://up.example/v1"), "https://evil.example/v1", TOKEN),
        (seal("sk-0123456789", TOKEN, "up", "https://up.example/v1"), "https://up.example/v1", "another"),
        (seal("sk-012\n3456789", TOKEN, "up", "https://up.example/v1"), "https://up.example/v1", TOKEN),
        ("sealed:!!!", "https://up.example/v1", TOKEN),
        ("sk-0123456789", "https://up.example/v1", TOKEN),
    ],
    ids=["another URL", "another token", "a line break", "nonsense", "in clear"],
)
def test_a_credential_that_may_not_be_used_is_a_mistake_that_does_not_quote_it(api_key, url, token):
    with pytest.raises(ConfigError) as error:
        assemble(head(api_key, url), KeyTable([]), sealed_credential(token))
    assert "sk-01" not in str(error.value)


# ---- budgets


def limiter(amount: float, window: str = "total", share: float = 1.0):
    runtime = compiled(
        route=[route("m")],
        key=[{"name": "k", "sha256": DIGEST, "budget": [{"amount": amount, "window": window}]}],
    )
    made = MemoryLimiter(share)
    made.apply(runtime)
    return made, next(iter(runtime.keys.values())), runtime.routes["m"]


def figure(nano: int, start: float = 0.0, window: str = "total") -> dict[str, object]:
    spent = Spent(scope="key", name="k", window=window, timezone="UTC", start=start, nano=nano)  # type: ignore[arg-type]
    return spent.model_dump()


async def told(made: MemoryLimiter, *figures: dict[str, object]) -> int:
    """The cursor that is asked with next, after an answer with cursor 7."""
    poll = SpendPoll(Control("http://127.0.0.1:1", TOKEN), made)
    body = json.dumps({"cursor": 7, "spent": figures}).encode()
    cursor, complete = await poll._learn(body)
    return cursor if complete else 0


def test_the_greater_of_own_count_and_ledger_counts():
    made, key, model = limiter(10)
    made.reserve(key, model, 0, 0, 0).settle(0, 6_000_000_000)
    assert asyncio.run(told(made, figure(4_000_000_000))) == 7
    purse = made.purse("key", "k", "total UTC")
    assert purse is not None
    assert purse.spent == 6_000_000_000
    asyncio.run(told(made, figure(9_000_000_000)))
    assert purse.spent == 9_000_000_000
    made.reserve(key, model, 0, 0, 0).settle(0, 1_000_000_000)
    with pytest.raises(GatewayError, match="is spent"):
        made.reserve(key, model, 0, 0, 0)


@given(workers=st.integers(1, 64), amount=st.integers(1, 10**15), beyond=st.integers(0, 10**12))
def test_a_budget_that_the_ledger_says_is_spent_is_spent_for_every_worker(workers, amount, beyond):
    made, key, model = limiter(1, share=1.0 / workers)
    purse = made.purse("key", "k", "total UTC")
    assert purse is not None
    purse.amount = int(amount * (1.0 / workers))
    purse.learn(made.part(amount + beyond), time.time())
    assert purse.spent >= purse.amount
    with pytest.raises(GatewayError, match="is spent"):
        made.reserve(key, model, 0, 0, 0)


def test_only_the_running_window_is_believed():
    now = datetime.now(UTC)
    today = now.replace(hour=0, minute=0, second=0, microsecond=0).timestamp()
    made, _, _ = limiter(10, "day")
    purse = made.purse("key", "k", "day UTC")
    assert purse is not None
    assert asyncio.run(told(made, figure(5, today - 86_400, "day"))) == 7
    assert purse.spent == 0
    assert asyncio.run(told(made, figure(5, today + 86_400, "day"))) == 0, "control's clock is ahead: ask again"
    assert purse.spent == 0
    asyncio.run(told(made, figure(5, today, "day")))
    assert purse.spent == 5


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"cursor":-1,"spent":[]}', b'{"cursor":1,"spent":[{}]}'])
def test_what_is_no_spend_is_an_error(body):
    made, _, _ = limiter(10)
    with pytest.raises(ControlError):
        asyncio.run(SpendPoll(Control("http://127.0.0.1:1", TOKEN), made)._learn(body))


def test_limits_that_stay_are_not_touched_by_a_new_configuration():
    made, key, model = limiter(10)
    begun, purse = made.budgets_begun, made.purse("key", "k", "total UTC")
    made.reserve(key, model, 0, 0, 0).settle(0, 5)
    again = compiled(
        route=[route("m")], key=[{"name": "k", "sha256": DIGEST, "budget": [{"amount": 10, "window": "total"}]}]
    )
    made.apply(again)
    assert made.purse("key", "k", "total UTC") is purse
    assert made.budgets_begun == begun
    made.apply(compiled(route=[route("m")]))
    assert made.purse("key", "k", "total UTC") is None


# ---- patience


def test_pauses_double_up_to_a_bound_that_lets_a_gateway_catch_up_within_two_seconds():
    line = Line("snapshot")
    pauses = []
    for _ in range(50):
        line.failed(ControlError("unreachable", "no"))
        pauses.append(line.pause)
    assert pauses[0] <= 1.0
    assert max(pauses) <= MAX_BACKOFF < 2.0
    assert len(set(pauses[-20:])) > 10, "they are jittered"
    line.worked()
    assert (line.answered, line.failures, line.in_a_row) == (True, 50, 0)
