"""A segment gives back exactly what was appended, whatever a kill or a bad disk left at its end."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from gateway.usage.segment import HEADER, OPENED, OVERHEAD, SETTLED, Segment

RECORDS = st.lists(
    st.tuples(st.sampled_from([OPENED, SETTLED]), st.binary(max_size=60).map(b"{%b".__mod__)), max_size=12
)
"""Payloads begin with a brace, as JSON objects do."""
per_example_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def written(path: Path, records: list[tuple[bytes, bytes]], size: int = 4096) -> int:
    """Write a new segment and close it; the offset behind the last record."""
    path.unlink(missing_ok=True)
    segment = Segment(path, size)
    for kind, payload in records:
        assert segment.append(kind, payload)
    segment.close()
    return segment.position


def read(path: Path) -> list[tuple[bytes, bytes]]:
    segment = Segment(path)
    found = [(kind, payload) for kind, payload, _ in segment.read(HEADER)]
    segment.close()
    return found


@per_example_folder
@given(records=RECORDS)
def test_records_survive_closing_and_opening(tmp_path, records):
    written(tmp_path / "s", records)
    assert read(tmp_path / "s") == records


@per_example_folder
@given(records=RECORDS.filter(bool), damage=st.integers(0, 10_000), value=st.integers(1, 255))
def test_a_damaged_last_record_ends_the_reading_and_those_before_it_stay(tmp_path, records, damage, value):
    end = written(tmp_path / "s", records)
    start = end - len(records[-1][1]) - OVERHEAD
    data = bytearray((tmp_path / "s").read_bytes())
    data[start + damage % (end - start)] ^= value
    (tmp_path / "s").write_bytes(data)
    assert read(tmp_path / "s") == records[:-1]


@per_example_folder
@given(records=RECORDS.filter(bool), kept=st.integers(0, 10_000))
def test_a_half_written_last_record_is_left_out(tmp_path, records, kept):
    end = written(tmp_path / "s", records)
    start = end - len(records[-1][1]) - OVERHEAD
    data = bytearray((tmp_path / "s").read_bytes())
    torn = start + kept % (end - start)
    data[torn:end] = bytes(end - torn)
    (tmp_path / "s").write_bytes(data)
    assert read(tmp_path / "s") in (records[:-1], records), "a payload that ends in zero bytes may be whole"


def test_a_record_that_does_not_fit_changes_nothing(tmp_path):
    segment = Segment(tmp_path / "s", 64)
    assert segment.append(OPENED, b"a" * 20)
    before = segment.position
    assert not segment.append(SETTLED, b"b" * 40)
    assert segment.position == before
    assert [payload for _, payload, _ in segment.read(HEADER)] == [b"a" * 20]
    segment.close()


def test_how_far_it_was_delivered_is_in_the_file(tmp_path):
    segment = Segment(tmp_path / "s", 4096)
    segment.append(SETTLED, b"one")
    segment.delivered = segment.position
    segment.append(SETTLED, b"two")
    segment.close()
    again = Segment(tmp_path / "s")
    assert [payload for _, payload, _ in again.read(again.delivered)] == [b"two"]
    again.close()


def test_its_disk_space_is_taken_at_once_and_only_its_owner_may_read_it(tmp_path):
    Segment(tmp_path / "s", 1 << 20).close()
    stat = (tmp_path / "s").stat()
    assert stat.st_size == 1 << 20
    assert stat.st_blocks * 512 >= 1 << 20, "a full disk is met now and not as a bus error in the middle of a request"
    assert stat.st_mode & 0o077 == 0


def test_an_existing_file_is_never_created_over(tmp_path):
    written(tmp_path / "s", [(OPENED, b"precious")])
    with pytest.raises(FileExistsError):
        Segment(tmp_path / "s", 4096)
    assert read(tmp_path / "s") == [(OPENED, b"precious")]


@pytest.mark.parametrize("content", [b"", b"tgspool", b"tgspool9" + bytes(100), bytes(4096)])
def test_what_is_no_segment_says_so(tmp_path, content):
    (tmp_path / "s").write_bytes(content)
    try:
        segment = Segment(tmp_path / "s")
    except ValueError:
        assert not content, "an empty file cannot be mapped"
        return
    assert not segment.valid()
    segment.close()
