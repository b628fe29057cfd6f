"""Bodies of schedules: when a suite is asked by itself, and what has become worse since."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, Field, StringConstraints, field_validator, model_validator

from control.comparisons.report_schemas import Change
from control.comparisons.run_schemas import RunCreate
from control.comparisons.schemas import Suite, SuiteVersion
from control.kit.schemas import A_MOMENT, Body, Flag, example

A_TIME: dict[str, Any] = {"every_hours": None, "at": "06:30", "timezone": "Asia/Shanghai", "enabled": True}
A_RUN: dict[str, Any] = {"candidates": [{"route": "gpt-4o"}], "budget_nano": 5_000_000_000}


class Times(Body):
    """Every so many hours, or daily at a time of the day."""

    every_hours: Annotated[int, Field(strict=True, ge=1, le=8784)] | None = None
    at: Annotated[str, StringConstraints(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")] | None = None
    """HH:MM, daily."""
    timezone: Annotated[str, StringConstraints(max_length=64)] = "UTC"
    """Name of the zone of `at`, such as Asia/Shanghai."""

    @field_validator("timezone")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError) as exc:
            raise ValueError(f"{name!r} is not a time zone name, such as Asia/Shanghai") from exc
        return name

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.every_hours is None) == (self.at is None):
            raise ValueError("say either `every_hours` or `at`")
        return self

    def after(self, moment: datetime, last: datetime) -> datetime:
        """The first time after `moment`, in step with `last`, an earlier time. A time of the day that the zone leaves
        out comes an hour later, and one that it has twice is taken once.
        """
        if self.every_hours is not None:
            step = timedelta(hours=self.every_hours)
            return last + step * max(1, (moment - last) // step + 1)
        zone = ZoneInfo(self.timezone)
        hour, minute = map(int, str(self.at).split(":"))
        day = moment.astimezone(zone).date() - timedelta(days=1)
        while True:
            day += timedelta(days=1)
            found = datetime(day.year, day.month, day.day, hour, minute, tzinfo=zone).astimezone(moment.tzinfo)
            if found > moment:
                return found


class ScheduleSet(Times):
    """When a suite is asked by itself, and of whom."""

    model_config = example(**A_TIME, run=A_RUN)

    enabled: Flag = True
    run: RunCreate
    """As for a run that is begun by hand; without `version`, each asks the newest one."""


class Schedule(BaseModel):
    """When a suite is asked by itself, and what has become worse."""

    model_config = example(
        **A_TIME, run=A_RUN, next_at=A_MOMENT, last_run=None, baseline=None, regressions=[], message="",
        created_by="alice",
    )  # fmt: skip

    every_hours: int | None
    at: str | None
    timezone: str
    enabled: bool
    run: RunCreate
    next_at: datetime
    last_run: str | None
    """The newest run that it has begun."""
    baseline: str | None
    """Run with which the next one is compared: the last one in which nothing was worse, or that somebody accepted."""
    regressions: list[Change]
    """What the last one that was compared has worse, by the verdict."""
    message: str
    """Why the last one did not begin, or has no whole result."""
    created_by: str
    """Who has set it, and in whose name runs begin."""


class SuiteDetail(Suite):
    """A suite with its versions, the newest first, and when it is asked by itself."""

    model_config = example(Suite, versions=[], schedule=None)

    versions: list[SuiteVersion]
    schedule: Schedule | None
