"""An adapter is put into the weights of its base model; what comes out is a model of its own, as GGUF too if wished.

python -m trainer.recipes.merge RUN_FOLDER
"""

from __future__ import annotations

import sys

from peft.tuners.tuners_utils import BaseTunerLayer

from trainer.recipes.common.fit import keep, versions
from trainer.recipes.common.gguf_file import GgufFile
from trainer.recipes.common.model import base_hash, device_name, load_tokenizer, probes
from trainer.recipes.common.run import Run, main
from trainer.recipes.common.trained import checked_adapter


def recipe(run: Run) -> None:
    """Load both, add the adapter's product to layer after layer, keep the model. A step is a layer."""
    tokenizer = load_tokenizer(run.spec.base)
    model = checked_adapter(run)
    gguf = GgufFile(model.get_base_model(), tokenizer, run.spec.gguf) if run.spec.gguf is not None else None
    layers = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
    run.started(
        total_steps=len(layers), device=device_name(), parameters=sum(one.numel() for one in model.parameters())
    )
    for number, layer in enumerate(layers, 1):
        if run.asked_to_stop():
            run.finished("stopped", message="stopped as asked; a merge begins from its start again")
            return
        layer.merge(safe_merge=True)
        run.measured(number, {"merged_layers": number})
    merged = model.unload()
    keep(run, merged, tokenizer, gguf)
    details = {
        "versions": versions(), "base_sha256": base_hash(run.spec), "merged": run.spec.data.train,
        "probes": probes(merged, tokenizer, run.spec),
    }  # fmt: skip
    run.finished("completed", output=run.output.name, details=details)


if __name__ == "__main__":
    sys.exit(main(recipe))
