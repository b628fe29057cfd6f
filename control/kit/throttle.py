"""Slows down whoever tries sign-ins from one network: a bucket of failures that empties steadily.

It stands beside the pause of an account, which guesses at many accounts would pass by. IPv4 counts by address, IPv6 by
/64, which is what one customer has. A try is taken before the slow work and given back when it succeeds, so parallel
tries cannot slip through. Memory is bounded; each process counts by itself.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from ipaddress import ip_address, ip_network

FREE_FAILURES = 30
"""Failures in a row that a network may have at once."""
SECONDS_EACH = 20.0
"""After so many seconds one of them is forgotten: 180 an hour for ever, from one network."""
MOST_NETWORKS = 10_000
"""Those that were not seen for longest are forgotten beyond that."""


class Throttle:
    """Failed sign-ins by network and kind of sign-in."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: OrderedDict[tuple[str, str], tuple[float, float]] = OrderedDict()
        """(kind, network) -> failures that are not forgotten, and when that was so."""

    def take(self, kind: str, address: str) -> int:
        """Count a try, and return 0; or, when there are too many already, the seconds to wait."""
        place, moment = (kind, network_of(address)), self._clock()
        count = self._count(place, moment)
        if count > FREE_FAILURES - 1:
            return math.ceil((count - (FREE_FAILURES - 1)) * SECONDS_EACH)
        self._keep(place, count + 1, moment)
        return 0

    def give_back(self, kind: str, address: str) -> None:
        """The try was no failure."""
        place, moment = (kind, network_of(address)), self._clock()
        self._keep(place, self._count(place, moment) - 1, moment)

    def __len__(self) -> int:
        return len(self._failures)

    def _count(self, place: tuple[str, str], moment: float) -> float:
        count, since = self._failures.get(place, (0.0, moment))
        return max(0.0, count - (moment - since) / SECONDS_EACH)

    def _keep(self, place: tuple[str, str], count: float, moment: float) -> None:
        self._failures.pop(place, None)
        if count > 0:
            self._failures[place] = (count, moment)
        if len(self._failures) > MOST_NETWORKS:
            self._failures.popitem(last=False)


def network_of(address: str) -> str:
    """What an address counts as: itself, or its /64. Text that is no address counts as itself."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    return address if parsed.version == 4 else str(ip_network((int(parsed), 64), strict=False))
