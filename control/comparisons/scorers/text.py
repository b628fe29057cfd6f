"""Scorers that compare texts."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

import regex

from control.comparisons.scorers import specs
from control.comparisons.scorers.base import Answer, Case, Score, unscored, verdict

REGEX_SECONDS = 0.2
COMPARED_CHARS = 20_000
"""BLEU, chrF and ROUGE look at so many characters of each side: ROUGE's work grows with their product."""
ROUGE_WORDS = 2_000
_NUMBER = re.compile(r"[-+−]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][-+]?\d{1,3})?%?")
_WORD = re.compile(r"[\u3400-\u9fff\uf900-\ufaff]|[^\W_]+", re.UNICODE)
_CHINESE = re.compile(r"[\u3400-\u9fff]")
NOTHING_EXPECTED = "the case has no expected answer"


def exact(spec: specs.Exact, case: Case, answer: Answer) -> Score:
    """Whether the texts are equal, blanks at their ends apart."""
    if case.expected is None:
        return unscored(NOTHING_EXPECTED)
    return verdict(_folded(answer.text.strip(), spec.ignore_case) == _folded(case.expected.strip(), spec.ignore_case))


def contains(spec: specs.Contains, case: Case, answer: Answer) -> Score:
    """Whether all texts are there."""
    wanted = spec.all_of or ((case.expected,) if case.expected is not None else ())
    if not wanted:
        return unscored(NOTHING_EXPECTED)
    text = _folded(answer.text, spec.ignore_case)
    missing = [one for one in wanted if _folded(one, spec.ignore_case) not in text]
    return verdict(not missing, f"not there: {missing[0][:100]!r}" if missing else "")


def matches(spec: specs.Regex, _case: Case, answer: Answer) -> Score:
    """Whether the pattern matches."""
    try:
        found = regex.search(spec.pattern, answer.text, timeout=REGEX_SECONDS)
    except TimeoutError:
        return unscored(f"the pattern took longer than {REGEX_SECONDS} s")
    return verdict((found is None) == spec.absent, f"found {found[0][:100]!r}" if found else "")


def numeric(spec: specs.Numeric, case: Case, answer: Answer) -> Score:
    """Whether the last numbers of both texts are equal within the tolerance."""
    if case.expected is None:
        return unscored(NOTHING_EXPECTED)
    wanted, got = last_number(case.expected), last_number(answer.text)
    if wanted is None:
        return unscored("the expected answer has no number")
    if got is None:
        return verdict(False, "the answer has no number")
    allowed = max(Decimal(str(spec.absolute)), Decimal(str(spec.relative)) * abs(wanted))
    return verdict(abs(got - wanted) <= allowed, f"{got} against {wanted}")


def last_number(text: str) -> Decimal | None:
    """The last number of a text: thousands by commas, a percentage as its number of hundredths."""
    found = _NUMBER.findall(text)
    if not found:
        return None
    digits = found[-1].rstrip("%").replace(",", "").replace("−", "-")
    try:
        value = Decimal(digits)
    except InvalidOperation:
        return None
    return value / 100 if found[-1].endswith("%") else value


def bleu(spec: specs.Bleu, case: Case, answer: Answer) -> Score:
    """Sentence BLEU with exponential smoothing and effective order, as sacreBLEU has it."""
    if not case.expected:
        return unscored(NOTHING_EXPECTED)
    from sacrebleu.metrics.bleu import BLEU  # noqa: PLC0415  (it loads half a second of packages that it hardly uses)

    metric = BLEU(effective_order=True, tokenize="zh" if _CHINESE.search(case.expected) else "13a")
    return _degree(spec, metric.sentence_score(_cut(answer.text), [_cut(case.expected)]).score / 100)


def chrf(spec: specs.Chrf, case: Case, answer: Answer) -> Score:
    """chrF2, as sacreBLEU has it."""
    if not case.expected:
        return unscored(NOTHING_EXPECTED)
    from sacrebleu.metrics.chrf import CHRF  # noqa: PLC0415  (as above)

    return _degree(spec, CHRF().sentence_score(_cut(answer.text), [_cut(case.expected)]).score / 100)


def rouge_l(spec: specs.Rouge, case: Case, answer: Answer) -> Score:
    """F1 of the longest common subsequence of words (Lin 2004); each Chinese character is a word."""
    if not case.expected:
        return unscored(NOTHING_EXPECTED)
    return _degree(spec, rouge_f1(words(answer.text), words(case.expected)))


def words(text: str) -> list[str]:
    """At most `ROUGE_WORDS` words in lower case, without punctuation."""
    return [one.lower() for one in _WORD.findall(_cut(text))[:ROUGE_WORDS]]


def rouge_f1(got: list[str], wanted: list[str]) -> float:
    """From 0 to 1."""
    if not got or not wanted:
        return 0.0
    # One row of the table as the bits of a number (Hyyrö 2004): a thousand words in a millisecond.
    places: dict[str, int] = {}
    for at, word in enumerate(wanted):
        places[word] = places.get(word, 0) | 1 << at
    full = (1 << len(wanted)) - 1
    row = full
    for word in got:
        hit = row & places.get(word, 0)
        row = ((row + hit) | (row - hit)) & full
    common = len(wanted) - row.bit_count()
    return 2 * common / (len(got) + len(wanted))


def _degree(spec: specs.Bleu | specs.Chrf | specs.Rouge, value: float) -> Score:
    value = min(1.0, max(0.0, value))  # sacreBLEU's sums may end a hair above 1
    return Score(value, value >= spec.at_least)


def _cut(text: str) -> str:
    return text[:COMPARED_CHARS]


def _folded(text: str, ignore_case: bool) -> str:
    return text.casefold() if ignore_case else text
