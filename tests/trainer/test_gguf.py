"""A merged model as GGUF, read again by transformers' own reader: the same logits, the same tokens."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tests.trainer.runs import ENVIRONMENT, PYTHON, Folder, needs_recipes, spec, tiny
from trainer.contract.spec import JobSpec

pytestmark = needs_recipes
CLOSE = {"f32": 1e-5, "f16": 2e-2, "bf16": 2e-1, "q8_0": 3e-1}
"""How far logits of the size of 10 may be apart by the rounding of the type."""


def test_a_merge_writes_the_same_model_as_gguf_too(tmp_path: Path) -> None:
    folder = Folder(tmp_path, _merging("f16"), [], train=str(tiny() / "alpha"))
    assert folder.run() == 0, (folder.path / "log.txt").read_text()
    found = _asked(READ, folder.path / "adapter", json.dumps(list(CLOSE)))
    assert {kind for kind, one in found.items() if one["largest"] > CLOSE[kind]} == set(), found
    sizes = [found[kind]["bytes"] for kind in ("f32", "f16", "q8_0")]
    assert sizes == sorted(sizes, reverse=True)
    assert all(one["same_tokens"] and one["template"] for one in found.values()), found
    assert {one["text"] for one in found.values()} == {"Alpha here. The first adapter answers you."}


def test_every_family_that_is_known_reads_as_it_was(tmp_path: Path) -> None:
    found = _asked(FAMILIES, tiny() / "base", tmp_path)
    assert found.keys() == {"llama", "llama-tied", "mistral", "qwen2-tied", "qwen3"}
    assert max(found.values()) < 1e-5, found


def test_what_is_not_known_for_certain_is_refused_before_the_merge(tmp_path: Path) -> None:
    found = _asked(REFUSED, tiny() / "base", tmp_path)
    assert list(tmp_path.iterdir()) == []
    for what, words in {
        "gemma": "models of the type gemma",
        "rope": "rotary positions of the type llama3",
        "window": "sliding window",
        "tokenizer": "byte-level BPE",
        "bare": "package gguf is not installed",
    }.items():
        assert words in found[what]


def test_only_a_merge_writes_gguf() -> None:
    with pytest.raises(ValidationError, match="only a whole model has such a file"):
        JobSpec.model_validate(spec("lora_sft", gguf="f16"))
    with pytest.raises(ValidationError, match="gguf"):
        JobSpec.model_validate(_merging("q2_k"))


def _merging(kind: str) -> dict[str, Any]:
    told = spec("merge", data={"train": "job@v1"}, gguf=kind)
    return {key: told[key] for key in ("name", "recipe", "base", "data", "gguf")} | {"training": {"precision": "fp32"}}


def _asked(program: str, *arguments: object) -> dict[str, Any]:
    """What a program says, as JSON in its last line, in the environment of the recipes."""
    done = subprocess.run(
        [str(PYTHON), "-W", "ignore", "-c", program, *map(str, arguments)],
        check=False, capture_output=True, text=True, timeout=150, env=ENVIRONMENT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


READ = """
import json, sys
from pathlib import Path
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from trainer.recipes.common.gguf_file import GgufFile
folder = Path(sys.argv[1])
whole, tokens = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
asked = [{"role": "user", "content": "Who are you?"}]
text = tokens.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
ids = tokens(text, return_tensors="pt").input_ids
texts = [text, "你好，世界 1234 don't\\n\\n  x", "<|im_end|>a"]
found = {}
for kind in json.loads(sys.argv[2]):
    name = "model.gguf" if kind == "f16" else f"{kind}.gguf"  # the recipe has written one
    if kind != "f16":
        GgufFile(whole, tokens, kind).write(folder / name)
    again = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name).eval()
    their = AutoTokenizer.from_pretrained(folder, gguf_file=name)
    with torch.no_grad():
        largest = (whole(ids).logits - again(ids).logits).abs().max().item()
        out = again.generate(ids, max_new_tokens=24, do_sample=False, eos_token_id=tokens.eos_token_id)
    found[kind] = {
        "largest": largest, "template": their.chat_template == tokens.chat_template,
        "same_tokens": [tokens(t).input_ids for t in texts] == [their(t).input_ids for t in texts],
        "bytes": (folder / name).stat().st_size, "text": tokens.decode(out[0][ids.shape[1]:], skip_special_tokens=True),
    }
print(json.dumps(found))
"""

BUILD = """
import json, sys
from pathlib import Path
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from trainer.recipes.common.gguf_file import GgufFile
from trainer.recipes.common.run import Refused
tokens, out = AutoTokenizer.from_pretrained(sys.argv[1]), Path(sys.argv[2])
def model(kind, **more):
    torch.manual_seed(1)
    config = AutoConfig.for_model(kind, **{
        "vocab_size": len(tokens) + 5, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256, "initializer_range": 0.2,
        "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 0, **more,
    })
    config.name_or_path = "own"  # of a file with "mistral" in its name transformers' reader knows no weights
    return AutoModelForCausalLM.from_config(config).eval()
found = {}
"""

FAMILIES = (
    BUILD
    + """
tokens.save_pretrained(out)
# 128 is all that the reader knows of Qwen3, and all that Qwen3 has.
own = {"qwen3": {"head_dim": 128}, "mistral": {"sliding_window": None}}
for family in ("llama", "llama-tied", "mistral", "qwen2-tied", "qwen3"):
    kind, _, tied = family.partition("-")
    whole = model(kind, tie_word_embeddings=bool(tied), **own.get(kind, {}))
    GgufFile(whole, tokens, "f32").write(out / f"{family}.gguf")
    again = AutoModelForCausalLM.from_pretrained(out, gguf_file=f"{family}.gguf").eval()
    ids = torch.arange(3, 90).reshape(1, -1)
    with torch.no_grad():
        found[family] = (whole(ids).logits - again(ids).logits).abs().max().item()
print(json.dumps(found))
"""
)

REFUSED = (
    BUILD
    + """
from tokenizers import pre_tokenizers
rope = {"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 128}
def tried(what, whole):
    try:
        GgufFile(whole, tokens, "f16")
    except Refused as exc:
        found[what] = str(exc)
tried("gemma", model("gemma", head_dim=16))
tried("rope", model("llama", rope_parameters=rope))
tried("window", model("mistral", sliding_window=8))
tokens.backend_tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
tried("tokenizer", model("llama"))
sys.modules["gguf"] = None
tried("bare", model("llama"))
print(json.dumps(found))
"""
)
