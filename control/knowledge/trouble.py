"""What may go wrong beside a bad document: the index, or what embeds."""

from __future__ import annotations

from typing import Literal

from control.errors import Problem

Code = Literal["embedding_down", "embedding_refused", "embedding_changed", "index_down", "knowledge_off"]


class Trouble(Exception):
    """It cannot be done now; the message says what to look at."""

    def __init__(self, code: Code, message: str, *, passes: bool = True) -> None:
        super().__init__(message)
        self.code = code
        self.passes = passes
        """Whether trying again may help."""

    def problem(self) -> Problem:
        """For a caller of the API."""
        return Problem(503, self.code, str(self), retry_after=2 if self.passes else None)
