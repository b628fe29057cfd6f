"""A base model with an adapter that was trained before beside its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peft import PeftModel

from trainer.recipes.common.model import base_hash, load_model
from trainer.recipes.common.run import Refused, Run


def checked_adapter(run: Run) -> Any:
    """The model of the spec with the adapter in the folder `data.train`.

    Raises:
        Refused: there is none, or it is of other weights.
    """
    own = base_hash(run.spec)
    if run.file.base_sha256 and own and own != run.file.base_sha256:
        raise Refused("config", f"the adapter was trained on other weights than those in {run.spec.base.id}")
    folder = Path(run.file.train)
    if not (folder / "adapter_config.json").exists():
        raise Refused("config", f"data.train: there is no adapter in the folder {folder}")
    try:
        return PeftModel.from_pretrained(load_model(run.spec), str(folder))
    except (RuntimeError, ValueError, KeyError) as exc:  # shapes or layers of another model
        raise Refused("config", f"the adapter does not fit the base model {run.spec.base.id}: {exc}") from exc
