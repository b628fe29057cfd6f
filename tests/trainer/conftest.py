"""What tests of the training worker share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.trainer.fake_control import FakeControl


@pytest.fixture
def control() -> Iterator[FakeControl]:
    """A control plane on loopback, that says what the test has it say."""
    one = FakeControl()
    yield one
    one.close()
