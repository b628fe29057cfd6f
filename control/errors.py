"""What goes wrong, as RFC 9457 problem details: every error of the control API has this one shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field, ValidationError
from sqlalchemy.exc import DBAPIError
from starlette.exceptions import HTTPException


class ConfigError(Exception):
    """The process cannot start with these settings; the message says why."""


class FieldError(BaseModel):
    """One wrong value of a request."""

    at: str = Field(examples=["body.name"])
    message: str = Field(examples=["String should have at least 1 character"])


class ProblemBody(BaseModel):
    """RFC 9457 problem details."""

    type: str = Field(default="about:blank", examples=["about:blank"])
    title: str = Field(examples=["Conflict"])
    status: int = Field(examples=[409])
    code: str = Field(examples=["stale_version"], description="From a closed vocabulary: for programs.")
    detail: str = Field(examples=["the team was changed by someone else: load it again"], description="For people.")
    errors: list[FieldError] = []


class Problem(Exception):
    """Answer this request with an error. `code` is stable, `detail` says what, which one and what to do."""

    def __init__(
        self, status: int, code: str, detail: str, errors: Sequence[FieldError] = (), retry_after: int | None = None
    ) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail, self.errors = status, code, detail, list(errors)
        self.retry_after = retry_after


TITLES = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    409: "Conflict",
    413: "Content Too Large",
    422: "Unprocessable Content",
    429: "Too Many Requests",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
    507: "Insufficient Storage",
}


def answers(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """`responses=` of a route with errors that its kind of call does not have by itself (`control.openapi`)."""
    return {status: {"model": ProblemBody} for status in statuses}


def not_found(kind: str, name: str) -> Problem:
    """404 for a named thing that is not there (or not yours to see)."""
    return Problem(404, "not_found", f"there is no {kind} {name!r}")


def duplicate(kind: str, name: str) -> Problem:
    """409 for a name that is taken."""
    return Problem(409, "duplicate_name", f"the name {name!r} is taken by another {kind}: names are never reused")


def stale(kind: str) -> Problem:
    """409 for an edit of a row that has changed since it was read."""
    return Problem(409, "stale_version", f"this {kind} was changed by someone else meanwhile: load it again")


def invalid(errors: Sequence[FieldError]) -> Problem:
    """422 that lists the wrong values."""
    return Problem(422, "invalid", "the request has wrong values; `errors` lists them", errors[:50])


def fields(exc: ValidationError, at: str) -> list[FieldError]:
    """The wrong values that a model found, below the place `at`."""
    return [FieldError(at=".".join([at, *map(str, e["loc"])]), message=str(e["msg"])) for e in exc.errors()]


def respond(problem: Problem) -> JSONResponse:
    """The problem as a response."""
    body = ProblemBody(
        title=TITLES.get(problem.status, "Error"),
        status=problem.status,
        code=problem.code,
        detail=problem.detail,
        errors=problem.errors,
    )
    headers = {}
    if problem.retry_after is not None:
        headers["retry-after"] = str(problem.retry_after)
    if problem.status == 401:
        headers["www-authenticate"] = "Bearer"
    return JSONResponse(
        body.model_dump(), status_code=problem.status, headers=headers, media_type="application/problem+json"
    )


def install(app: FastAPI) -> None:
    """Let every exception of the app become a problem; what is unforeseen is a 500 without details."""

    async def of_problem(_: Request, exc: Exception) -> JSONResponse:
        assert isinstance(exc, Problem)
        return respond(exc)

    async def of_validation(_: Request, exc: Exception) -> JSONResponse:
        assert isinstance(exc, RequestValidationError)
        errors = [FieldError(at=".".join(map(str, e["loc"])), message=str(e["msg"])) for e in exc.errors()[:50]]
        return respond(invalid(errors))

    async def of_http(_: Request, exc: Exception) -> JSONResponse:
        assert isinstance(exc, HTTPException)
        response = respond(Problem(exc.status_code, "http", str(exc.detail)))
        response.headers.update(exc.headers or {})
        return response

    async def of_database(_: Request, exc: Exception) -> JSONResponse:
        assert isinstance(exc, DBAPIError)
        if exc.connection_invalidated or type(exc).__name__ in ("OperationalError", "InterfaceError"):
            return respond(Problem(503, "database_down", "the database does not answer: try again", retry_after=2))
        if str(getattr(exc.orig, "sqlstate", None)).startswith("22"):  # of PostgreSQL, such as a NUL in a text
            return respond(Problem(422, "invalid", "the request has a value that the database cannot hold"))
        raise exc

    async def of_refused_connection(_: Request, __: Exception) -> JSONResponse:
        return respond(Problem(503, "database_down", "the database does not answer: try again", retry_after=2))

    app.add_exception_handler(Problem, of_problem)
    app.add_exception_handler(RequestValidationError, of_validation)
    app.add_exception_handler(HTTPException, of_http)
    app.add_exception_handler(DBAPIError, of_database)
    app.add_exception_handler(OSError, of_refused_connection)

    async def of_bug(_: Request, __: Exception) -> JSONResponse:
        return respond(Problem(500, "bug", "something went wrong here; the log of control says what"))

    app.add_exception_handler(Exception, of_bug)  # Starlette logs the exception and raises it again for the server
