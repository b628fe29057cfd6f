"""`/api/v1/runs`: suites asked of routes, cell by cell."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query, Response
from fastapi.responses import StreamingResponse
from sqlalchemy.ext.asyncio import AsyncSession

from control import models
from control.comparisons import export, otlp, recorded, report_schemas, results, run_schemas as schemas, runs
from control.deps import Db, Parts, allow, allow_long
from control.kit.ownership import find
from control.kit.pages import Page, Paging, paginate
from control.kit.permissions import Person

router = APIRouter(tags=["comparisons"])
Reader = Annotated[Person, Depends(allow("comparisons:list"))]
Writer = Annotated[Person, Depends(allow("comparisons:own"))]
Sender = Annotated[Person, Depends(allow_long("comparisons:own"))]
Place = Annotated[int, Path(ge=0, le=2_000_000_000)]
Offset = Annotated[int, Query(ge=0, le=2_000_000_000)]
Limit = Annotated[int, Query(ge=1, le=200)]
OfSuite = Annotated[str | None, Query(max_length=64, description="Of this suite only.")]
Against = Annotated[str | None, Query(max_length=36, description="An earlier run to compare with.")]
Cells = Annotated[
    Literal["csv", "jsonl", "otlp"],
    Query(description="CSV has what fits a row, JSON lines everything, OTLP (logs as JSON) an event for each score."),
]
Pages = Annotated[Literal["html", "markdown"], Query()]
MEDIA = {
    "csv": "text/csv", "jsonl": "application/jsonl", "otlp": "application/json", "html": "text/html",
    "markdown": "text/markdown",
}  # fmt: skip
OfCase = Annotated[int | None, Query(ge=1, le=2_000_000_000, description="Of this case only.")]


def _a_text(*formats: str) -> dict[int | str, dict[str, Any]]:
    return {200: {"content": {MEDIA[one]: {"schema": {"type": "string"}} for one in formats}}}


@router.post("/suites/{name}/estimate")
async def estimate_run(name: str, body: schemas.RunCreate, session: Db, person: Writer) -> schemas.RunEstimate:
    """What a run is likely to cost; nothing is begun."""
    suite = await find(session, person, models.Suite, name)
    return (await runs.prepared(session, suite, body))[2]


@router.post("/suites/{name}/runs", status_code=201)
async def create_run(name: str, body: schemas.RunCreate, session: Db, person: Writer) -> schemas.Run:
    """Ask every candidate about every case. It begins by itself, and goes on over restarts."""
    return (await runs.shown(session, person, [await runs.create(session, person, name, body)]))[0]


@router.post("/suites/{name}/shadow", status_code=201)
async def record_shadow(name: str, body: schemas.ShadowRun, parts: Parts, person: Sender) -> schemas.Run:
    """A run over what a route and its shadow have answered to the same requests, as the request log keeps it: a version
    of the suite with its newest scorers, and finished cells. Needs the permission to read bodies; nobody is asked."""
    async with parts.db.read() as session:
        found = await recorded.paired(session, parts.vault, person, name, body)
    async with parts.db.write() as session:
        row = await recorded.record(session, parts.files, parts.vault, person, name, body, found)
        return (await runs.shown(session, person, [row]))[0]


@router.get("/runs")
async def list_runs(session: Db, person: Reader, paging: Paging, suite: OfSuite = None) -> Page[schemas.Run]:
    """Runs, the newest first: all with `comparisons:read`, those of your suites and your teams' without."""
    page = await paginate(session, await runs.listed(session, person, suite), paging, lambda row: row)
    items = await runs.shown(session, person, page.items)
    return Page(items=items, total=page.total, page=page.page, per_page=page.per_page)


@router.get("/runs/{id}")
async def get_run(id: str, session: Db, person: Reader) -> schemas.Run:
    """A run and how far it is."""
    return (await runs.shown(session, person, [await runs.of_id(session, person, id)]))[0]


@router.post("/runs/{id}/pause")
async def pause_run(id: str, session: Db, person: Writer) -> schemas.Run:
    """Begin nothing more; what is under way is still answered and kept."""
    return (await runs.shown(session, person, [await runs.pause(session, person, id)]))[0]


@router.post("/runs/{id}/resume")
async def resume_run(id: str, body: schemas.RunResume, session: Db, person: Writer) -> schemas.Run:
    """Fill the cells that are not there. Those that are there are never asked again."""
    return (await runs.shown(session, person, [await runs.resume(session, person, id, body)]))[0]


@router.post("/runs/{id}/cancel")
async def cancel_run(id: str, session: Db, person: Writer) -> schemas.Run:
    """End it for good; its cells stay."""
    return (await runs.shown(session, person, [await runs.cancel(session, person, id)]))[0]


@router.delete("/runs/{id}", status_code=204)
async def delete_run(id: str, session: Db, parts: Parts, person: Writer) -> None:
    """Forget a run with all its cells, for good."""
    await runs.remove(session, person, id)
    await asyncio.to_thread(parts.files.remove, "comparisons", id)


@router.get("/runs/{id}/cells")
async def list_cells(
    id: str, session: Db, person: Reader, case: OfCase = None, failed: bool = False, offset: Offset = 0,
    limit: Limit = 50,
) -> schemas.Cells:  # fmt: skip
    """Cells by case, candidate and repeat."""
    row = await runs.of_id(session, person, id)
    return await runs.some_cells(session, row, case=case, failed=failed, offset=offset, limit=limit)


@router.get("/runs/{id}/cells/{case_number}/{candidate_number}/{repeat_number}")
async def get_cell(
    id: str, case_number: Place, candidate_number: Place, repeat_number: Place, session: Db, person: Reader
) -> schemas.Cell:
    """Everything of a cell: what was sent, and what came back."""
    row = await runs.of_id(session, person, id)
    return await runs.cell(session, row, case_number, candidate_number, repeat_number)


@router.get("/runs/{id}/verdicts")
async def list_verdicts(
    id: str, session: Db, person: Reader, case: OfCase = None, offset: Offset = 0, limit: Limit = 50
) -> schemas.Verdicts:
    """What judges that compare answers in pairs have said, in either order."""
    row = await runs.of_id(session, person, id)
    return await runs.some_verdicts(session, row, case=case, offset=offset, limit=limit)


@router.get("/runs/{id}/report")
async def get_report(id: str, session: Db, person: Reader, against: Against = None) -> report_schemas.Report:
    """What the run shows so far: means with intervals, pairs, ratings, times, cost, tags; regressions against another
    run of a suite that you may see."""
    return await _report(session, person, id, against)


@router.get("/runs/{id}/export", response_class=StreamingResponse, responses=_a_text("csv", "jsonl", "otlp"))
async def export_cells(
    id: str, session: Db, parts: Parts, person: Reader, format: Cells = "jsonl"
) -> StreamingResponse:
    """Every cell of a run as a file."""
    row = await runs.of_id(session, person, id)
    scorers = [one["name"] for one in (await runs.version_of(session, row)).content.get("scorers", [])]
    suite = (await runs.shown(session, person, [row]))[0].suite

    async def records() -> AsyncIterator[str]:
        yield otlp.head(row.id, suite)
        between = ""
        async for cell in results.exported(parts.db, row):
            for event in otlp.events(cell):
                yield between + event
                between = ",\n"
        yield otlp.foot()

    async def lines() -> AsyncIterator[str]:
        if format == "csv":
            yield export.csv_head(scorers)
        async for cell in results.exported(parts.db, row):
            yield export.csv_line(cell, scorers) if format == "csv" else export.json_line(cell)

    if format == "otlp":
        return StreamingResponse(records(), media_type=MEDIA[format], headers=_named(row, "otlp.json"))
    return StreamingResponse(lines(), media_type=MEDIA[format], headers=_named(row, format))


@router.get("/runs/{id}/report/export", response_class=Response, responses=_a_text("html", "markdown"))
async def export_report(
    id: str, session: Db, person: Reader, format: Pages = "html", against: Against = None
) -> Response:
    """The report as a file that needs nothing else."""
    row = (await runs.shown(session, person, [await runs.of_id(session, person, id)]))[0]
    facts = [
        f"run {row.id} of version {row.version}, {row.state}",
        f"begun by {row.created_by} at {row.created_at:%Y-%m-%d %H:%M} UTC",
        f"{row.done} of {row.total} answers, {row.failed} failed", f"billed: {row.billed_nano / 1e9:.6f}",
    ]  # fmt: skip
    write = export.page if format == "html" else export.markdown
    text = write(f"Suite {row.suite}", facts, await _report(session, person, id, against))
    headers = _named(row, "md" if format == "markdown" else format) | {"content-security-policy": "sandbox"}
    return Response(text, media_type=MEDIA[format], headers=headers)


async def _report(session: AsyncSession, person: Person, id: str, against: str | None) -> report_schemas.Report:
    row = await runs.of_id(session, person, id)
    earlier = await runs.of_id(session, person, against) if against is not None else None
    return await results.reported(session, row, earlier)


def _named(row: Any, ending: str) -> dict[str, str]:
    return {"content-disposition": f'attachment; filename="run-{row.id}.{ending}"'}
