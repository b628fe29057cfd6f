"""CPU time and memory of a process tree, read from /proc and the kernel's process clocks."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

TICK_US = 1_000_000 / os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Stat:
    """The fields of one /proc/PID/stat that the benchmark needs."""

    pid: int
    parent: int
    user_us: float
    system_us: float
    ended_us: float
    """Of its children that have ended, user and system."""
    rss: int


@dataclass(frozen=True)
class Usage:
    """Sums over a process tree."""

    cpu_us: float = 0.0
    """User and system time, to the nanosecond."""
    user_us: float = 0.0
    """The user part, by the clock tick: only good for the split of a long run."""
    rss: int = 0


def parse_stat(text: str) -> Stat:
    """Parse a stat line. The command name may hold spaces and brackets: the last ')' ends it."""
    pid, rest = text.split(" ", 1)
    fields = rest[rest.rindex(")") + 2 :].split()
    utime, stime, cutime, cstime = (int(value) for value in fields[11:15])
    return Stat(
        pid=int(pid),
        parent=int(fields[1]),
        user_us=utime * TICK_US,
        system_us=stime * TICK_US,
        ended_us=(cutime + cstime) * TICK_US,
        rss=int(fields[21]) * PAGE,
    )


def tree(root: int, stats: dict[int, Stat]) -> list[Stat]:
    """The process `root` and everything below it."""
    children: dict[int, list[int]] = {}
    for stat in stats.values():
        children.setdefault(stat.parent, []).append(stat.pid)
    found, todo = [], [root]
    while todo:
        pid = todo.pop()
        if pid in stats:
            found.append(stats[pid])
            todo.extend(children.get(pid, ()))
    return found


def read_stats(proc: Path = Path("/proc")) -> dict[int, Stat]:
    """Every process's stat; one that ends while we look is left out."""
    stats = {}
    for entry in proc.iterdir():
        if entry.name.isdigit():
            try:
                stat = parse_stat((entry / "stat").read_text())
            except (OSError, ValueError, IndexError):
                continue
            stats[stat.pid] = stat
    return stats


def clock_us(stat: Stat) -> float:
    """CPU time of a process and all of its threads, ended ones too, from its clock: clock_getcpuclockid(3).

    The figures of /proc/PID/stat are the same but in ticks of 10 ms, too coarse for a second of streaming.
    """
    try:
        return time.clock_gettime_ns((~stat.pid << 3) | 2) / 1000
    except OSError:
        return stat.user_us + stat.system_us


def usage(root: int) -> Usage:
    """What the tree below `root` has used so far."""
    found = tree(root, read_stats())
    return Usage(
        cpu_us=sum(clock_us(stat) + stat.ended_us for stat in found),
        user_us=sum(stat.user_us for stat in found),
        rss=sum(stat.rss for stat in found),
    )


def busy_us(text: str, core: int) -> float:
    """Time that a core was not idle, from the text of /proc/stat; what the host took away (steal) counts."""
    for line in text.splitlines():
        if line.startswith(f"cpu{core} "):
            user, nice, system, _idle, _wait, irq, soft, steal = (int(word) for word in line.split()[1:9])
            return (user + nice + system + irq + soft + steal) * TICK_US
    return 0.0


def core_busy_us(core: int) -> float:
    """The same, now."""
    return busy_us(Path("/proc/stat").read_text(), core)
