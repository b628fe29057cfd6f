"""From rows to tokens: what is learned of each, what is cut."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from trainer.recipes.common.run import Refused, Run, read_rows

IGNORED = -100
"""Label of a token that the loss leaves out."""


class Encoded(NamedTuple):
    """Rows as tokens."""

    rows: list[dict[str, list[int]]]
    """`input_ids` and `labels`."""
    tokens: int
    truncated: int
    """Rows that were longer than `max_length`."""
    empty: int
    """Rows of which nothing is left to learn after cutting: left out."""


def split(run: Run) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows to learn from and rows to measure with; the share that is held out is chosen by the seed."""
    train = read_rows(run.file.train)
    if run.file.validation is not None:
        return train, read_rows(run.file.validation)
    held = round(len(train) * run.spec.data.validation_share)
    if not held:
        return train, []
    order = list(range(len(train)))
    random.Random(run.spec.training.seed).shuffle(order)
    chosen = set(order[:held])
    rest = [row for number, row in enumerate(train) if number not in chosen]
    if not rest:
        raise Refused("data", f"of {len(train)} rows {held} are held out, and none is left to learn from")
    return rest, [train[number] for number in sorted(chosen)]


def encode(rows: Sequence[dict[str, Any]], tokenizer: Any, max_length: int, assistant_only: bool) -> Encoded:
    """Tokens of dialogues or texts. Of a dialogue, the assistant's words and the end of each answer are learned."""
    found: list[dict[str, list[int]]] = []
    tokens = truncated = empty = 0
    for row in rows:
        ids, labels = _text(row["text"], tokenizer) if "text" in row else _dialogue(row, tokenizer, assistant_only)
        if len(ids) > max_length:
            truncated += 1
            ids, labels = ids[:max_length], labels[:max_length]
        if all(label == IGNORED for label in labels):
            empty += 1
            continue
        tokens += len(ids)
        found.append({"input_ids": ids, "labels": labels})
    return Encoded(found, tokens, truncated, empty)


def length(row: dict[str, Any], tokenizer: Any) -> int:
    """Tokens of a row, uncut; of a pair of answers those of the longer one."""
    if "text" in row:
        return len(_text(row["text"], tokenizer)[0])
    if "messages" in row:
        return len(_dialogue(row, tokenizer, False)[0])
    if "choices" in row:
        longest = max(len(tokenizer(choice, add_special_tokens=False)["input_ids"]) for choice in row["choices"])
        asked = tokenizer.apply_chat_template(row["prompt"], tokenize=False, add_generation_prompt=True)
        return longest + len(tokenizer(asked, add_special_tokens=False)["input_ids"])
    answers = [row[name] for name in ("chosen", "rejected", "completion") if name in row]
    whole = [{"messages": [*row["prompt"], *answer], "tools": row.get("tools")} for answer in answers]
    return max(len(_dialogue(one, tokenizer, False)[0]) for one in whole)


def _text(text: str, tokenizer: Any) -> tuple[list[int], list[int]]:
    ids = [*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    return ids, list(ids)


def _dialogue(row: dict[str, Any], tokenizer: Any, assistant_only: bool) -> tuple[list[int], list[int]]:
    messages, tools = row["messages"], row.get("tools")
    whole = tokenizer.apply_chat_template(messages, tools=tools, tokenize=False)
    ids: list[int] = []
    labels: list[int] = []
    if not assistant_only:
        ids = tokenizer(whole, add_special_tokens=False)["input_ids"]
        return ids, list(ids)
    done = 0
    for number, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        asked = tokenizer.apply_chat_template(
            messages[:number], tools=tools, tokenize=False, add_generation_prompt=True
        )
        said = tokenizer.apply_chat_template(messages[: number + 1], tools=tools, tokenize=False)
        if not said.startswith(asked) or not whole.startswith(said) or len(asked) < done:
            raise Refused(
                "config", "the chat template writes earlier messages anew: training.assistant_only_loss = false"
            )
        for text, learned in ((said[done : len(asked)], False), (said[len(asked) :], True)):
            piece = tokenizer(text, add_special_tokens=False)["input_ids"]
            ids += piece
            labels += piece if learned else [IGNORED] * len(piece)
        done = len(said)
    return ids, labels


class Padded:
    """Puts rows of different lengths into one batch."""

    def __init__(self, pad: int) -> None:
        self._pad = pad

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Tensors of equal length."""
        length = max(len(row["input_ids"]) for row in rows)

        def filled(name: str, filler: int) -> torch.Tensor:
            return torch.tensor([list(row[name]) + [filler] * (length - len(row[name])) for row in rows])

        mask = torch.tensor([[1] * len(row["input_ids"]) + [0] * (length - len(row["input_ids"])) for row in rows])
        return {
            "input_ids": filled("input_ids", self._pad),
            "labels": filled("labels", IGNORED),
            "attention_mask": mask,
        }
