"""Which adapters vLLM refuses to serve, told before hours are spent on one.

The rules are those of vllm/lora/peft_helper.py (0.32 and 0.33), and of its `--max-lora-rank`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainer.contract.spec import OF_AN_ADAPTER, JobSpec

PLAIN_INITS = ("gaussian", "eva", "orthogonal", "mica", "lora_ga")
"""Ways to begin that leave the base model's weights as they are. Others change them: a plain adapter is not enough."""
_SAVED = ("classifier", "score")


def problems(spec: JobSpec, max_lora_rank: int) -> tuple[str, ...]:
    """Rules that keep the result of a job from being served; none of one that makes a whole model."""
    if spec.recipe == "full_sft" or spec.recipe in OF_AN_ADAPTER:
        return ()
    lora = spec.lora
    config = {
        "r": lora.r, "use_dora": lora.dora, "modules_to_save": list(lora.modules_to_save),
        "init_lora_weights": True if lora.init == "default" else lora.init,
    }  # fmt: skip
    return refusals(config, max_lora_rank)


def refusals(config: Mapping[str, Any], max_lora_rank: int) -> tuple[str, ...]:
    """Why an adapter with this `adapter_config.json` of PEFT is refused; each says the setting and the rule."""
    found = []
    if config.get("use_dora"):
        found.append("lora.dora: “vLLM does not yet support DoRA.”")
    init = config.get("init_lora_weights")
    if isinstance(init, str) and init.lower() not in PLAIN_INITS:
        found.append(
            f"lora.init = {init}: “vLLM does not support init_lora_weights={init!r}.” It changes the base model's "
            "weights; convert the result to a plain LoRA, or choose another init"
        )
    extra = sorted(set(config.get("modules_to_save") or ()) - set(_SAVED))
    if extra:
        found.append(
            "lora.modules_to_save: “vLLM only supports modules_to_save being either None or ['classifier', 'score'].” "
            f"Leave out {', '.join(extra)}"
        )
    if config.get("lora_bias") or config.get("bias") not in (None, "none"):
        found.append("“vLLM does not support LoRA bias (lora_bias).”")
    for setting in ("alora_invocation_tokens", "layer_replication", "use_bdlora", "use_qalora"):
        if config.get(setting):
            found.append(f"vLLM does not support {setting}")
    rank = max([int(config.get("r") or 0), *map(int, (config.get("rank_pattern") or {}).values())])
    if rank > max_lora_rank:
        found.append(
            f"lora.r = {rank}: engines here are started with --max-lora-rank {max_lora_rank}, and “LoRA rank {rank} is "
            f"greater than max_lora_rank {max_lora_rank}.”"
        )
    return tuple(found)
