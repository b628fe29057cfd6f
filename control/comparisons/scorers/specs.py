"""The scorers that a suite may name, each with its settings."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

import jsonschema
import regex
from pydantic import Field, StringConstraints, field_validator, model_validator

from control.kit.schemas import Body, Flag
from gateway.contract.base import Name

Label = Annotated[str, StringConstraints(min_length=1, max_length=60, pattern=r"^[^\x00-\x1f\x7f]+$")]
Text = Annotated[str, StringConstraints(max_length=20_000, pattern=r"^[^\x00]*$")]
Share = Annotated[float, Field(strict=True, ge=0, le=1)]
MACROS = (".map(", ".filter(", ".all(", ".exists(", ".exists_one(")
"""What walks a list in CEL; one inside another multiplies the work, so an expression may have `MOST_MACROS`."""
MOST_MACROS = 2
SCHEMA_CHARS = 50_000


class _Scorer(Body):
    """A scorer."""

    name: Label
    """How reports call it; a suite has each name once."""


class _Line(_Scorer):
    """A scorer of degrees, with a line to pass."""

    at_least: Share = 0.5
    """Scores from here on pass."""


class Exact(_Scorer):
    """The answer is the expected one."""

    kind: Literal["exact"]
    ignore_case: Flag = False
    """Compare without case."""


class Contains(_Scorer):
    """The answer contains all of these texts."""

    kind: Literal["contains"]
    all_of: Annotated[tuple[Text, ...], Field(max_length=50)] = ()
    """Empty: the case's expected answer."""
    ignore_case: Flag = True
    """Compare without case."""


class Regex(_Scorer):
    """The answer matches a pattern somewhere."""

    kind: Literal["regex"]
    pattern: Annotated[str, StringConstraints(min_length=1, max_length=1000)]
    """Python's syntax; matching stops after 0.2 s."""
    absent: Flag = False
    """Pass when the pattern does not match."""

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        try:
            regex.compile(pattern)
        except (regex.error, OverflowError, RecursionError) as exc:
            raise ValueError(f"no regular expression: {exc}") from exc
        return pattern


class Numeric(_Scorer):
    """The last number of the answer is the expected one, within a tolerance."""

    kind: Literal["numeric"]
    absolute: Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)] = 0.0
    """Largest difference that passes."""
    relative: Annotated[float, Field(strict=True, ge=0, le=1)] = 1e-6
    """Largest difference as a share of the expected number; the wider of both counts."""


class JsonSchema(_Scorer):
    """The answer is JSON of this schema."""

    kind: Literal["json_schema"]
    # Not `schema`: pydantic's own classes have an attribute of that name.
    json_schema: dict[str, Any]
    """Draft 2020-12, without references to other documents."""

    @field_validator("json_schema")
    @classmethod
    def _is_schema(cls, schema: dict[str, Any]) -> dict[str, Any]:
        if len(json.dumps(schema)) > SCHEMA_CHARS:
            raise ValueError(f"longer than {SCHEMA_CHARS} characters")
        for keyword, value in _keywords(schema):
            if keyword in ("pattern", "patternProperties"):  # would run by `re`, which nothing can interrupt
                raise ValueError(f"`{keyword}` is refused: use a scorer of kind `regex`")
            if keyword in ("$ref", "$dynamicRef") and not str(value).startswith("#"):  # would be fetched
                raise ValueError(f"`{keyword}` may only point into the schema itself")
        try:
            jsonschema.Draft202012Validator.check_schema(schema)
        except (jsonschema.SchemaError, RecursionError) as exc:
            raise ValueError(f"no JSON schema: {str(exc).splitlines()[0][:200]}") from exc
        return schema


class JsonField(_Scorer):
    """Fields of the answer's JSON have the expected values."""

    kind: Literal["json_field"]
    fields: Annotated[tuple[Annotated[str, StringConstraints(min_length=1, max_length=200)], ...], Field(max_length=50)]
    """Paths such as `address.city` or `items.0.name`. The score is the share of those that equal the field of the
    case's expected answer, which is JSON too."""

    @field_validator("fields")
    @classmethod
    def _some(cls, fields: tuple[str, ...]) -> tuple[str, ...]:
        if not fields:
            raise ValueError("names no field")
        return fields


class Bleu(_Line):
    """Sentence BLEU against the expected answer; Chinese is cut into characters."""

    kind: Literal["bleu"]


class Chrf(_Line):
    """chrF against the expected answer."""

    kind: Literal["chrf"]


class Rouge(_Line):
    """ROUGE-L (F1 of the longest common subsequence of words) against the expected answer."""

    kind: Literal["rouge_l"]


class ToolCall(_Scorer):
    """The answer calls the expected tools with the expected arguments, in any order."""

    kind: Literal["tool_call"]
    arguments: Flag = True
    """Compare arguments too, as JSON; else only names."""


class Citation(_Scorer):
    """The answer cites a passage of the document that it should come from."""

    kind: Literal["citation"]


class Threshold(_Scorer):
    """Latency, cost or tokens are at most so much."""

    kind: Literal["threshold"]
    of: Literal["latency_ms", "ttft_ms", "cost", "completion_tokens", "total_tokens"]
    """What is measured."""
    at_most: Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
    """In milliseconds, the ledger's currency, or tokens."""


class Expression(_Scorer):
    """An expression in CEL, the Common Expression Language, that is true or false, or a number from 0 to 1."""

    kind: Literal["expression"]
    expression: Annotated[str, StringConstraints(min_length=1, max_length=1000)]
    """May use `text`, `expected`, `variables`, `tags`, `finish_reason`, `tool_calls` (names), `citations` (names of
    documents), `tokens`, `cost`, `latency_ms` and `ttft_ms`."""

    @field_validator("expression")
    @classmethod
    def _compiles(cls, expression: str) -> str:
        import cel  # noqa: PLC0415  (as in `bounds`)

        if sum(expression.count(macro) for macro in MACROS) > MOST_MACROS:
            raise ValueError(f"may walk at most {MOST_MACROS} lists ({', '.join(macro[1:-1] for macro in MACROS)})")
        try:
            cel.compile(expression)
        except ValueError as exc:
            raise ValueError(f"no CEL expression: {str(exc).splitlines()[0]}") from exc
        return expression


class Similarity(_Line):
    """Cosine of the embeddings of the answer and the expected one, by a route of the gateway."""

    kind: Literal["similarity"]
    route: Name
    """A route that answers `/v1/embeddings`."""


class Judge(_Line):
    """Another model gives points by a rubric."""

    kind: Literal["judge"]
    route: Name
    """The route of the judge; better none of the compared ones."""
    rubric: Annotated[str, StringConstraints(min_length=1, max_length=8000)]
    """What makes an answer good, in words."""
    points: Annotated[int, Field(strict=True, ge=2, le=10)] = 5
    """The best mark; the worst is 1."""


class PairwiseJudge(_Scorer):
    """Another model says which of two routes' answers is better; it is asked in both orders."""

    kind: Literal["pairwise_judge"]
    route: Name
    """The route of the judge; better none of the compared ones."""
    rubric: Annotated[str, StringConstraints(min_length=1, max_length=8000)]
    """What makes an answer better, in words."""


ScorerSpec = Annotated[
    Exact | Contains | Regex | Numeric | JsonSchema | JsonField | Bleu | Chrf | Rouge | ToolCall | Citation
    | Threshold | Expression | Similarity | Judge | PairwiseJudge,
    Field(discriminator="kind"),
]  # fmt: skip


class Scorers(Body):
    """The scorers of a suite."""

    scorers: Annotated[tuple[ScorerSpec, ...], Field(max_length=20)] = ()

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        names = [one.name for one in self.scorers]
        if len(names) != len(set(names)):
            raise ValueError("two scorers have the same name")
        return self


def _keywords(schema: Any) -> Iterator[tuple[str, Any]]:
    """All keywords of a JSON schema with their values, and none of the names and data in it."""
    for key, value in schema.items() if isinstance(schema, dict) else ():
        yield key, value
        if key in ("enum", "const", "default", "examples"):
            continue
        named = isinstance(value, dict) and key in ("properties", "$defs", "definitions", "dependentSchemas")
        for inner in value.values() if named else value if isinstance(value, list) else (value,):
            yield from _keywords(inner)
