"""Runs all cells against one real gateway process, and writes the table of docs/dialects.md."""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from openai import OpenAI

from tests.fakes.gateway import KEY, Gateway, route
from tests.fakes.upstream import Seen, Step, Upstream
from tests.matrix.cases import CASES, Cell
from tests.matrix.clients import CLIENTS
from tests.matrix.operations import OPERATIONS, SPOKEN, Trial, refused
from tests.matrix.told import Asked, Said
from tests.matrix.vendors import VENDORS, script

PAGE = Path(__file__).resolve().parents[2] / "docs" / "dialects.md"
BEGIN, END = "<!-- the table: written by make matrix -->", "<!-- the end of the table -->"
NOT_APPLICABLE: dict[tuple[str, str], str] = {
    ("openai", "reasoning"): "OpenAI's chat completions API does not show reasoning; see openai-responses",
    ("azure", "reasoning"): "as for openai",
    **dict.fromkeys(
        ((kind, "JSON schema") for kind in ("deepseek", "zhipu", "moonshot")),
        "its API offers JSON without a schema only: a schema is refused by name (`response_format`)",
    ),
}
"""(vendor, case) -> why nothing can be tried there."""
PECULIAR = (
    "bedrock, images: inline ones only; Converse takes no URLs, which are refused by name",
    "bedrock and cohere, usage: their APIs do not tell reasoning from other output",
    "cohere, parallel tools: no text beside calls; its `tool_plan` is told as reasoning",
    "deepseek, zhipu and moonshot: a schema that arrives in their own dialect passes through, whatever they make of it",
)
"""What the cells of some vendors leave out, and why."""


class Matrix:
    """A gateway in front of one fake for each vendor."""

    def __init__(self, gateway: Gateway, upstream: Upstream) -> None:
        self.gateway = gateway
        self.upstream = upstream
        self._numbers = itertools.count(1)

    def try_cell(self, inbound: str, kind: str, case: str) -> None:
        """Raises what is wrong with it."""
        vendor, name = VENDORS[kind], f"{getattr(VENDORS[kind], 'prefix', '')}m{next(self._numbers)}"
        model = f"{kind}/{name}"
        asked: list[Asked] = []

        def say(said: Said) -> None:
            self.upstream.on(name, script(vendor, said, asked.append))

        with closing(CLIENTS[inbound](self.gateway.url, KEY)) as client:
            CASES[case](Cell(self.gateway, client, vendor, model, say, asked))

    def try_operation(self, kind: str, operation: str) -> None:
        """Raises what is wrong with it."""
        name = f"{'cohere.' if kind == 'bedrock' else ''}m{next(self._numbers)}"

        def on(answer: Callable[[Seen], list[Step]]) -> None:
            self.upstream.on(name, answer)
            self.upstream.on("", answer)  # files and batches name no model

        model, url = f"{kind}/{name}", f"{self.gateway.url}/v1"
        with OpenAI(base_url=url, api_key=KEY, max_retries=0, default_headers={"x-tunegate-model": model}) as client:
            trial = Trial(self.gateway, kind, model, on, client)
            if operation in SPOKEN[kind]:
                OPERATIONS[operation](trial)
            else:
                refused(trial, operation)


@contextmanager
def matrix(folder: Path) -> Iterator[Matrix]:
    """All parts, started and stopped."""
    with Upstream() as upstream:
        root = upstream.url.removesuffix("/v1")
        endpoints = [
            {
                "name": name,
                "provider": vendor.kind,
                "base_url": root + vendor.base,
                "api_key": f"env:{variable(name)}",
                "timeouts": {"connect": 2.0, "first_byte": 10.0, "idle": 10.0, "total": 30.0},
                **getattr(vendor, "endpoint", {}),
            }
            for name, vendor in VENDORS.items()
        ]
        routes = [route(f"{kind}/*", kind) for kind in VENDORS]
        config = {"endpoint": endpoints, "route": routes}
        keys = {variable(name): getattr(vendor, "key", "vendor-secret-0123456789") for name, vendor in VENDORS.items()}
        with Gateway(config, folder, env=keys) as gateway:
            yield Matrix(gateway, upstream)


def variable(name: str) -> str:
    """The environment variable of a vendor's key."""
    return f"KEY_{name.upper().replace('-', '_')}"


def cells() -> Iterator[tuple[str, str, str]]:
    """(dialect in, provider out, case) of all that can be tried."""
    for inbound, kind, case in itertools.product(CLIENTS, VENDORS, CASES):
        if (kind, case) not in NOT_APPLICABLE:
            yield inbound, kind, case


def operations() -> Iterator[tuple[str, str]]:
    """(provider, operation), also of those that must be refused."""
    return itertools.product(SPOKEN, OPERATIONS)


def results() -> tuple[dict[tuple[str, str, str], str], dict[tuple[str, str], str]]:
    """Every cell of both tables, with what is wrong with it; empty if nothing is."""
    with tempfile.TemporaryDirectory() as folder, matrix(Path(folder)) as trial:
        found = {cell: _trouble(trial.try_cell, *cell) for cell in cells()}
        return found, {cell: _trouble(trial.try_operation, *cell) for cell in operations()}


def _trouble(try_it: Callable[..., None], *cell: str) -> str:
    try:
        try_it(*cell)
    except Exception as exc:  # noqa: BLE001 - whatever it is, it belongs into the table
        return f"{type(exc).__name__}: {str(exc).splitlines()[0][:300]}" if str(exc) else repr(exc)
    return ""


def table(found: dict[tuple[str, str, str], str]) -> str:
    """The counts, a table for each dialect in, and the reasons."""
    good, pairs = sum(not trouble for trouble in found.values()), len(CLIENTS) * len(VENDORS)
    sound = sum(
        all(not trouble for (i, k, _), trouble in found.items() if (i, k) == pair)
        for pair in itertools.product(CLIENTS, VENDORS)
    )
    lines = [
        f"**{good} of {len(found)} cells** pass; {sound} of {pairs} pairs pass in all their cells;"
        f" {pairs * len(CASES) - len(found)} cells are not applicable.",
        "",
    ]
    for inbound in CLIENTS:
        lines += [f"### In: {inbound}", "", "| out | " + " | ".join(CASES) + " |", "|---" * (len(CASES) + 1) + "|"]
        for kind in VENDORS:
            marks = [_mark(found, inbound, kind, case) for case in CASES]
            lines.append(f"| {kind} | " + " | ".join(marks) + " |")
        lines.append("")
    lines += ["Not applicable:", ""]
    lines += [f"- {kind}, {case}: {why}" for (kind, case), why in NOT_APPLICABLE.items()]
    lines += ["", "Left out of a cell:", "", *(f"- {text}" for text in PECULIAR)]
    failures = [f"- {i} → {k}, {c}: {trouble}" for (i, k, c), trouble in found.items() if trouble]
    if failures:
        lines += ["", "What fails:", "", *failures]
    return "\n".join(lines)


def operation_table(found: dict[tuple[str, str], str]) -> str:
    """The counts, and one table."""
    good = sum(not trouble for trouble in found.values())
    spoken = sum(len(has) for has in SPOKEN.values())
    lines = [
        "### Beside conversations", "",
        f"**{good} of {len(found)} cells** pass: {spoken} answer, {len(found) - spoken} refuse by name what the"
        " vendor has no API for (–).", "",
        "| out | " + " | ".join(OPERATIONS) + " |", "|---" * (len(OPERATIONS) + 1) + "|",
    ]  # fmt: skip
    for kind, has in SPOKEN.items():
        marks = ["🔴" if found[kind, one] else "🟢" if one in has else "–" for one in OPERATIONS]
        lines.append(f"| {kind} | " + " | ".join(marks) + " |")
    failures = [f"- {kind}, {one}: {trouble}" for (kind, one), trouble in found.items() if trouble]
    return "\n".join([*lines, *(["", "What fails:", "", *failures] if failures else [])])


def _mark(found: dict[tuple[str, str, str], str], inbound: str, kind: str, case: str) -> str:
    trouble = found.get((inbound, kind, case))
    return "–" if trouble is None else "🔴" if trouble else "🟢"


def main() -> int:
    """Write the table; 1 if a cell fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--print", action="store_true", help="print the table and leave the page as it is")
    arguments = parser.parse_args()
    found, beside = results()
    text = f"{table(found)}\n\n{operation_table(beside)}"
    if arguments.print:
        print(text)
    else:
        page = PAGE.read_text(encoding="utf-8")
        before, _, rest = page.partition(BEGIN)
        _, _, after = rest.partition(END)
        PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")
        print(text.splitlines()[0])
    return int(any(found.values()) or any(beside.values()))


if __name__ == "__main__":
    sys.exit(main())
