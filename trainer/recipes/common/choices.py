"""Multiple choice: of each choice its log-likelihood after the question; the likeliest one is the model's answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

from trainer.contract.evaluation import Evaluated, Side, accuracy
from trainer.recipes.common.run import Refused, Run, read_rows


class Answer(NamedTuple):
    """Of one question."""

    plain: bool
    """The right choice is the likeliest."""
    normalised: bool
    """It is so by character."""
    cut: bool
    """The beginning of the question did not fit."""


def questions(run: Run) -> list[dict[str, Any]]:
    """Those of the spec's `eval`."""
    assert run.spec.eval is not None
    assert run.file.evaluation is not None
    rows = read_rows(run.file.evaluation)[: run.spec.eval.limit]
    if not rows:
        raise Refused("data", f"eval.data: {run.spec.eval.data} has no questions")
    return rows


def answers(
    model: Any, tokenizer: Any, rows: Sequence[dict[str, Any]], batch: int, told: Callable[[int], bool]
) -> list[Answer] | None:
    """The model's answers; None if `told`, which hears how many there are, says that it is enough."""
    was_training = model.training
    model.eval()
    found: list[Answer] = []
    try:
        for row in rows:
            found.append(_answer(model, tokenizer, row, batch))
            if told(len(found)):
                return None
    finally:
        model.train(was_training)
    return found


def compared(base: Sequence[Answer], result: Sequence[Answer]) -> Evaluated:
    """Both models' answers to the same questions."""
    pairs = list(zip(base, result, strict=True))
    return Evaluated(
        questions=len(pairs), cut=sum(one.cut for one in result), base=_side(base), result=_side(result),
        won=sum(after.plain and not before.plain for before, after in pairs),
        lost=sum(before.plain and not after.plain for before, after in pairs),
    )  # fmt: skip


def figures(found: Evaluated) -> dict[str, float]:
    """For the metrics of the run."""
    return {
        "choice_accuracy": found.result.plain.share, "choice_accuracy_normalised": found.result.normalised.share,
        "choice_accuracy_base": found.base.plain.share,
    }  # fmt: skip


def _side(found: Sequence[Answer]) -> Side:
    return Side(
        plain=accuracy(sum(one.plain for one in found), len(found)),
        normalised=accuracy(sum(one.normalised for one in found), len(found)),
    )


def _answer(model: Any, tokenizer: Any, row: dict[str, Any], batch: int) -> Answer:
    text = tokenizer.apply_chat_template(row["prompt"], tokenize=False, add_generation_prompt=True)
    asked = tokenizer(text, add_special_tokens=False)["input_ids"]
    said = [tokenizer(choice, add_special_tokens=False)["input_ids"] for choice in row["choices"]]
    longest = int(getattr(model.config, "max_position_embeddings", 0) or 1 << 30)
    room = longest - max(map(len, said))
    if room < 1:
        raise Refused("data", f"line {row['_line']}: a choice is longer than the model's context of {longest} tokens")
    cut = len(asked) > room
    likely: list[float] = []
    for start in range(0, len(said), batch):
        likely += _likelihoods(model, asked[-room:], said[start : start + batch], tokenizer.pad_token_id)
    by_character = [one / len(choice) for one, choice in zip(likely, row["choices"], strict=True)]
    right = row["answer"]
    return Answer(_first_best(likely) == right, _first_best(by_character) == right, cut)


def _first_best(values: Sequence[float]) -> int:
    return max(range(len(values)), key=lambda number: values[number])


def _likelihoods(model: Any, asked: list[int], said: Sequence[list[int]], pad: int) -> list[float]:
    """Log-likelihood of each continuation."""
    rows = [asked + one for one in said]
    length = max(map(len, rows))
    ids = torch.tensor([row + [pad] * (length - len(row)) for row in rows], device=model.device)
    mask = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in rows], device=model.device)
    with torch.no_grad():
        logits = model(input_ids=ids, attention_mask=mask).logits
    found = []
    for number, one in enumerate(said):
        # a token is foretold at the place before it
        told = logits[number, len(asked) - 1 : len(asked) + len(one) - 1].float().log_softmax(-1)
        found.append(float(told[torch.arange(len(one)), torch.tensor(one)].sum()))
    return found
