"""All weights of a small model learn dialogues or texts; what comes out is a model of its own.

python -m trainer.recipes.full_sft RUN_FOLDER
"""

from __future__ import annotations

import sys

from trainer.recipes.common.fit import fit_dialogues
from trainer.recipes.common.model import load_model, load_tokenizer
from trainer.recipes.common.run import Run, main


def recipe(run: Run) -> None:
    """Load, learn, keep the model."""
    tokenizer = load_tokenizer(run.spec.base)
    fit_dialogues(run, load_model(run.spec), tokenizer)


if __name__ == "__main__":
    sys.exit(main(recipe))
