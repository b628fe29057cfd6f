"""`make fuzz`: random input for every parser of strangers' bytes, for a minute or as long as `--seconds` says.

Then every stream decoder under atheris, where it is installed, for `--guided` seconds each (see `tests.fuzz.guided`).

A failure is printed with the seed and the bytes that show it; `--target NAME --seed N` does it again.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Sequence

from tests.fuzz import dialects, guided, targets, upstream
from tests.fuzz.targets import Target

TARGETS: dict[str, Target] = {
    "framer": targets.framer,
    "splice": targets.splice,
    "find": targets.find,
    "multipart": targets.multipart,
    "log": targets.log,
    "stream": dialects.stream,
    "answer": dialects.answer,
    "question": dialects.question,
    "connection": upstream.connection,
}


def once(name: str, seed: int) -> str:
    """Run one case; what is wrong, or nothing."""
    try:
        TARGETS[name](random.Random(seed))
    except Exception as exc:  # noqa: BLE001  (whatever escapes a parser is a finding)
        return f"{name}, seed {seed}: {type(exc).__name__}: {exc}"
    return ""


def fuzz(names: Sequence[str], seconds: float, first_seed: int) -> tuple[dict[str, int], str]:
    """(cases run by target, the first failure or nothing)."""
    cases = dict.fromkeys(names, 0)
    end = time.monotonic() + seconds
    seed = first_seed
    while time.monotonic() < end:
        for name in names:
            for _ in range(50):
                problem = once(name, seed)
                cases[name] += 1
                if problem:
                    return cases, problem
                seed += 1
    return cases, ""


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument(
        "--guided", type=int, default=10, help="seconds for each decoder under atheris; 0: leave it out"
    )
    parser.add_argument("--target", choices=list(TARGETS), help="only this one")
    parser.add_argument("--seed", type=int, help="only this case (needs --target)")
    arguments = parser.parse_args(argv)
    names = [arguments.target] if arguments.target else list(TARGETS)
    if arguments.seed is not None:
        if not arguments.target:
            parser.error("--seed needs --target")
        problem = once(arguments.target, arguments.seed)
        print(problem or "nothing wrong")
        return bool(problem)
    cases, problem = fuzz(names, arguments.seconds, random.randrange(1 << 40))
    print(", ".join(f"{name}: {count:,} cases" for name, count in cases.items()))
    if problem:
        print(f"FAILED {problem}", file=sys.stderr)
    guided_found = guided.main(["--seconds", str(arguments.guided)]) if arguments.guided and not arguments.target else 0
    return bool(problem) or bool(guided_found)


if __name__ == "__main__":
    raise SystemExit(main())
