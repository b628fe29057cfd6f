"""Counts the tokens of a dataset's rows with a base model's tokenizer and chat template. Learns nothing.

python -m trainer.recipes.lengths FOLDER    reads FOLDER/count.json, writes FOLDER/lengths.json
"""

from __future__ import annotations

import ctypes
import json
import signal
import sys
from array import array
from collections import Counter
from pathlib import Path
from typing import Any

from trainer.contract.spec import BaseModelRef
from trainer.contract.worker import BINS
from trainer.recipes.common.model import load_tokenizer
from trainer.recipes.common.rows import length
from trainer.recipes.common.run import Refused

_PR_SET_PDEATHSIG = 1


def main() -> int:
    """Count; what went wrong is in `failure`."""
    if sys.platform == "linux":  # without its worker nobody takes what it finds
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    folder = Path(sys.argv[1])
    told = json.loads((folder / "count.json").read_text(encoding="utf-8"))
    try:
        said: dict[str, Any] = {"lengths": summary(counted(Path(told["rows"]), told["base"]))}
    except Refused as exc:
        said = {"failure": str(exc)}
    except Exception as exc:  # noqa: BLE001 - templates and tokenizers raise what they like; people are told
        said = {"failure": f"{type(exc).__name__}: {exc}"}
    (folder / "lengths.json").write_text(json.dumps(said), encoding="utf-8")
    return 0


def counted(rows: Path, base: dict[str, Any]) -> array[int]:
    """Tokens of each row."""
    tokenizer = load_tokenizer(BaseModelRef.model_validate(base))
    found = array("q")
    with rows.open(encoding="utf-8") as file:
        for number, text in enumerate(file, 1):
            row = json.loads(text)
            try:
                found.append(length(row, tokenizer))
            except Exception as exc:
                raise Refused("data", f"row {row.get('_line', number)}: {type(exc).__name__}: {exc}") from exc
    return found


def summary(lengths: array[int]) -> dict[str, Any]:
    """`trainer.contract.worker.TokenLengths`: quantiles, and bins of one width, a power of two."""
    if not lengths:
        raise Refused("data", "there are no rows")
    ordered = sorted(lengths)
    width = 1
    while ordered[-1] > width * BINS:
        width *= 2
    bins = Counter(-(-length // width) * width for length in ordered)
    return {
        "rows": len(ordered), "total": sum(ordered), "min": ordered[0], "p50": ordered[len(ordered) // 2],
        "p95": ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))], "max": ordered[-1], "width": width,
        "bins": [{"to": to, "rows": bins[to]} for to in sorted(bins)],
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
