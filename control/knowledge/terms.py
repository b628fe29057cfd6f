"""Words for BM25, made here so that Milvus and Milvus Lite find the same: their own analyzers differ.

Letters and digits make words, in lower case. Chinese, Japanese and Korean have no spaces: each two neighbouring
characters are a word (bigrams), which needs no dictionary and so knows every product's name.
"""

from __future__ import annotations

import re
import unicodedata

MOST_BYTES = 60_000
"""Of the words of one text: Milvus takes 65,535 bytes."""
_RUN = re.compile(r"[^\W_]+")
_WIDE = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]+")

_COMMON = frozenset(
    """a an and are as at be but by for if in into is it no not of on or such that the their then there these they this
    to was will with""".split()  # noqa: SIM905
)
"""English words that tell nothing apart; the list of Lucene's StandardAnalyzer."""


def asked(text: str) -> str:
    """The words of a question: without those that nearly every chunk has, unless there are no others. They weigh next
    to nothing in BM25, and finding all chunks that have them takes most of the time of a search.
    """
    words = terms(text).split()
    return " ".join([word for word in words if word not in _COMMON] or words)


def terms(text: str) -> str:
    """The words of a text, separated by spaces; may be empty."""
    found: list[str] = []
    for run in _RUN.findall(unicodedata.normalize("NFKC", text).lower()):
        at = 0
        for wide in _WIDE.finditer(run):  # `[^\W_]+` takes what is written without a space too: 版本2的
            found += [run[at : wide.start()]] if wide.start() > at else []
            found += _bigrams(wide.group())
            at = wide.end()
        found += [run[at:]] if at < len(run) else []
    words, size = [], 0
    for word in found:
        size += len(word.encode()) + 1
        if size > MOST_BYTES:
            break
        words.append(word)
    return " ".join(words)


def _bigrams(run: str) -> list[str]:
    return [run] if len(run) == 1 else [run[at : at + 2] for at in range(len(run) - 1)]
