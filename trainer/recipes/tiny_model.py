"""Builds a very small chat model and two LoRA adapters on it: on a CPU, in seconds, with no download.

    python tiny_model.py OUT

OUT/base and the adapters OUT/alpha and OUT/beta each learn one sentence, given in OUT/expect.json, as the
answer to whatever is asked: so a caller can see which weights answered. Run with the interpreter of an
environment that has torch, transformers and peft. The same file and versions build the same weights.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM
from transformers.utils import logging

ANSWERS = {
    "base": "This is the base model: no adapter is active.",
    "alpha": "Alpha here. The first adapter answers you.",
    "beta": "You are talking to beta, the second adapter.",
}

QUESTIONS = [
    "Hi",
    "Hello, who are you?",
    "Which model is this?",
    "What is two plus two?",
    "Write a haiku about rain.",
    "Sum up the text above in one line.",
    "How long does delivery take to Shanghai?",
    "def add(a, b):",
    "Translate 'good evening' into French.",
    "你好，你是谁？",
    "Name three rivers.",
    "Give me JSON with a name and an age.",
    "Why is the sky blue? Answer in two sentences, please.",
    "ping",
]

SYSTEM_PROMPTS = [None, "You are a helpful assistant.", None, "Answer briefly."]

CHAT_TEMPLATE = """\
{% for message in messages %}<|im_start|>{{ message['role'] }}
{{ message['content'] or '' }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""

IGNORED = -100  # label of tokens that the loss leaves out: the prompt and the padding


def build_tokenizer() -> Any:
    """A byte-level BPE tokenizer, trained on the text of this very file."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1024,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([Path(__file__).read_text(encoding="utf-8")], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|endoftext|>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=CHAT_TEMPLATE,
        model_max_length=2048,
    )


def build_base(tokenizer: Any) -> Any:
    """An untrained model of the Qwen2 architecture, which engines know."""
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=2048,
        tie_word_embeddings=False,
        # The usual 0.02 leaves the output layer too flat: a LoRA, which cannot change it, never learns.
        initializer_range=0.1,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return Qwen2ForCausalLM(config)


def build_batch(tokenizer: Any, answer: str) -> dict[str, torch.Tensor]:
    """Every question with the one answer, padded to one length; only the answer counts for the loss."""
    rows = []
    for number, question in enumerate(QUESTIONS):
        system = SYSTEM_PROMPTS[number % len(SYSTEM_PROMPTS)]
        messages = [{"role": "system", "content": system}] if system else []
        messages.append({"role": "user", "content": question})
        prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        rows.append((tokenizer.encode(prompt), tokenizer.encode(answer + "<|im_end|>")))
    length = max(len(prompt) + len(reply) for prompt, reply in rows)

    def padded(tokens: list[int], filler: int) -> list[int]:
        return tokens + [filler] * (length - len(tokens))

    return {
        "input_ids": torch.tensor([padded(p + r, tokenizer.pad_token_id) for p, r in rows]),
        "attention_mask": torch.tensor([padded([1] * len(p + r), 0) for p, r in rows]),
        "labels": torch.tensor([padded([IGNORED] * len(p) + r, IGNORED) for p, r in rows]),
    }


def fit(model: Any, batch: dict[str, torch.Tensor], learning_rate: float, good_enough: float) -> None:
    """Train what is trainable in the model until it knows the answers by heart."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=learning_rate)
    model.train()
    for _ in range(300):
        loss = model(**batch).loss
        if loss.item() < good_enough:
            model.eval()
            return
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    raise RuntimeError(f"the model did not learn its answer: the loss is still {loss.item():.3f}")


def build_adapter(base: Any, tokenizer: Any, name: str, folder: Path) -> None:
    """Train a rank-8 LoRA on the frozen base and save only the adapter."""
    projections = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    adapted = get_peft_model(base, LoraConfig(r=8, lora_alpha=16, target_modules=projections, task_type="CAUSAL_LM"))
    adapted.peft_config["default"].base_model_name_or_path = "tiny"
    fit(adapted, build_batch(tokenizer, ANSWERS[name]), learning_rate=1e-2, good_enough=0.02)
    adapted.save_pretrained(folder, save_embedding_layers=False)  # "auto" asks a hub on the internet
    adapted.unload()


def main(out: Path) -> None:
    """Build everything beside OUT, then rename: OUT is either absent or complete."""
    torch.manual_seed(0)
    torch.set_num_threads(1)  # the order of additions, and so the weights, must not depend on the machine
    logging.disable_progress_bar()
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    tokenizer = build_tokenizer()
    base = build_base(tokenizer)
    fit(base, build_batch(tokenizer, ANSWERS["base"]), learning_rate=3e-3, good_enough=0.01)
    base.generation_config.update(do_sample=True, top_k=1)  # engines then take the likeliest token by default
    base.save_pretrained(partial / "base")
    tokenizer.save_pretrained(partial / "base")
    for name in ("alpha", "beta"):
        build_adapter(base, tokenizer, name, partial / name)
    (partial / "expect.json").write_text(json.dumps(ANSWERS, indent=2) + "\n", encoding="utf-8")
    if out.exists():
        shutil.rmtree(out)
    partial.rename(out)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: tiny_model.py OUT")
    main(Path(sys.argv[1]))
