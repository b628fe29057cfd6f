"""What was admitted is delivered exactly once, whatever happens to the process, and a full spool refuses new work."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from gateway.errors import GatewayError
from gateway.usage.segment import Segment
from gateway.usage.sink import JsonlSink
from gateway.usage.spool import Spool, SpoolInUse
from tests.gateway.unit.records import event, identity, ids

SEGMENT = 65_536


def started(folder: Path, maximum: int = 64 * SEGMENT) -> Spool:
    spool = Spool(folder, SEGMENT, maximum)
    _living.append(spool)
    spool.start()
    return spool


def killed(spool: Spool) -> None:
    """kill -9: nothing is flushed, the page cache keeps what was copied into the mappings, the kernel unlocks."""
    for segment in spool.segments():
        segment._map.close()
    if spool._lock is not None:
        spool._lock.close()
    _living.remove(spool)


_living: list[Spool] = []


@pytest.fixture(autouse=True)
def nothing_lives_on() -> Iterator[None]:
    yield
    for spool in tuple(_living):
        killed(spool)


def drained(spool: Spool) -> list[bytes]:
    """Everything that can be delivered, delivered."""
    found = []
    while True:
        payloads, marks = spool.deliverable(10_000)
        found += payloads
        spool.delivered(marks)
        if not payloads:
            return found


def served(spool: Spool, *numbers: int) -> None:
    for number in numbers:
        spool.settle(spool.open(event(number, "interrupted")), event(number))


def filled(spool: Spool) -> tuple[list[tuple[int, Segment]], GatewayError]:
    """Open requests until one is refused."""
    taken: list[tuple[int, Segment]] = []
    while True:
        try:
            taken.append((len(taken), spool.open(event(len(taken), "interrupted"))))
        except GatewayError as error:
            return taken, error


def test_settled_events_survive_a_kill_and_come_in_order(tmp_path):
    spool = started(tmp_path)
    served(spool, *range(100))
    killed(spool)
    assert ids(drained(started(tmp_path))) == [identity(n) for n in range(100)]


def test_a_directory_that_a_living_process_writes_to_is_refused(tmp_path):
    spool = started(tmp_path)
    with pytest.raises(SpoolInUse, match="another gateway"):
        started(tmp_path)
    spool.close()
    started(tmp_path)


def test_what_was_delivered_is_not_delivered_again_after_a_kill(tmp_path):
    spool = started(tmp_path)
    served(spool, 1, 2)
    drained(spool)
    served(spool, 3)
    killed(spool)
    assert ids(drained(started(tmp_path))) == [identity(3)]


def test_a_request_that_was_only_opened_is_interrupted_after_a_restart_and_only_once(tmp_path):
    spool = started(tmp_path)
    spool.open(event(1, "interrupted"))
    served(spool, 2)
    killed(spool)

    again = started(tmp_path)
    assert again.recovered == 1
    found = {orjson.loads(p)["id"]: orjson.loads(p)["end"] for p in drained(again)}
    assert found == {identity(1): "interrupted", identity(2): "success"}
    killed(again)

    third = started(tmp_path)
    assert (third.recovered, drained(third)) == (0, [])


def test_a_kill_during_recovery_still_recovers_once(tmp_path):
    spool = started(tmp_path)
    spool.open(event(1, "interrupted"))
    killed(spool)
    killed(started(tmp_path))
    third = started(tmp_path)
    assert third.recovered == 0, "the second start has already settled it"
    assert ids(drained(third)) == [identity(1)]


def test_a_torn_settlement_makes_its_request_an_interrupted_one(tmp_path):
    spool = started(tmp_path)
    served(spool, 1)
    segment = spool.open(event(2, "interrupted"))
    spool.settle(segment, event(2))
    end = segment.position
    killed(spool)
    data = bytearray(segment.path.read_bytes())
    data[end - 5 : end] = bytes(5)
    segment.path.write_bytes(data)

    found = {orjson.loads(p)["id"]: orjson.loads(p)["end"] for p in drained(started(tmp_path))}
    assert found == {identity(1): "success", identity(2): "interrupted"}


def test_a_file_of_another_kind_is_put_aside_and_kept(tmp_path):
    (tmp_path / f"{7:012d}.spool").write_bytes(b"something else" * 10)
    spool = started(tmp_path)
    served(spool, 1)
    assert (tmp_path / f"{7:012d}.damaged").read_bytes() == b"something else" * 10
    assert ids(drained(spool)) == [identity(1)]
    assert max(int(path.stem) for path in tmp_path.glob("*.spool")) > 7, "its number is not used again"


def test_a_full_spool_refuses_new_requests_and_loses_none_that_it_took(tmp_path):
    spool = started(tmp_path, maximum=2 * SEGMENT)
    taken, error = filled(spool)
    assert (error.code, error.status) == ("tunegate_spool_full", 503)
    assert spool.refused == 1
    assert len(taken) > 10

    for number, segment in taken:
        spool.settle(segment, event(number, padding=700))
    assert sorted(ids(drained(spool))) == [identity(number) for number, _ in taken]
    spool.open(event(99_999, "interrupted"))


def test_new_requests_never_push_the_spool_over_its_maximum(tmp_path):
    spool = started(tmp_path, maximum=2 * SEGMENT)
    filled(spool)
    assert spool.bytes_used <= 2 * SEGMENT


def test_a_kill_between_creating_a_file_and_filling_it_does_not_stop_the_next_start(tmp_path):
    (tmp_path / f"{1:012d}.spool").touch()
    served(started(tmp_path), 1)


def test_a_disk_that_has_no_room_refuses_too(tmp_path, monkeypatch):
    spool = started(tmp_path)

    def full(descriptor: int, size: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gateway.usage.segment._allocate", full)
    taken, error = filled(spool)
    assert error.code == "tunegate_spool_full"
    assert "No space left on device" in error.message
    for number, segment in taken:
        spool.settle(segment, event(number))
    assert ids(drained(spool)) == [identity(number) for number, _ in taken]
    assert len(list(tmp_path.glob("*.spool"))) == 1, "the file that could not be filled is gone"


def test_files_go_when_they_are_delivered_and_stay_while_a_request_in_them_runs(tmp_path):
    spool = started(tmp_path)
    long = spool.open(event(0, "interrupted"))
    for number in range(1, 500):
        served(spool, number)
        drained(spool)
    assert long.path.exists()
    assert len(list(tmp_path.glob("*.spool"))) == 2, "the one that the long request holds, and the one in use"
    spool.settle(long, event(0))
    drained(spool)
    assert not long.path.exists()
    spool.close()
    assert not list(tmp_path.glob("*.spool")), "an ordered stop leaves nothing behind"


def test_an_event_that_is_delivered_twice_is_counted_once_even_behind_a_torn_line(tmp_path):
    spool = started(tmp_path / "spool")
    served(spool, 1, 2, 3)
    payloads, _ = spool.deliverable(10_000)
    JsonlSink(tmp_path / "ledger", "w0").store(payloads)
    killed(spool)  # the batch is in the ledger, but nobody noted it

    (file,) = (tmp_path / "ledger").iterdir()
    with file.open("ab") as ledger:
        ledger.write(event(4)[:20])  # and this line was being written
    again = started(tmp_path / "spool")
    served(again, 4)
    sink = JsonlSink(tmp_path / "ledger", "w0")
    payloads, marks = again.deliverable(10_000)
    sink.store(payloads)
    sink.store(payloads)
    again.delivered(marks)

    lines = file.read_bytes().splitlines()
    assert ids(lines) == [identity(n) for n in (1, 2, 3, 4)]
    assert drained(again) == []


def test_a_sink_that_failed_half_way_takes_the_batch_again_whole(tmp_path, monkeypatch):
    sink = JsonlSink(tmp_path, "w0")
    sink.store([event(1)])
    (file,) = tmp_path.iterdir()

    def half(descriptor: int, data: bytes) -> None:
        file.write_bytes(file.read_bytes() + data[:50])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("gateway.usage.sink._write_whole", half)
        with pytest.raises(OSError, match="No space"):
            sink.store([event(2), event(3)])
    sink.store([event(2), event(3)])
    assert ids(file.read_bytes().splitlines()) == [identity(n) for n in (1, 2, 3)]
