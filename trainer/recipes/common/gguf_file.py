"""A model as one GGUF file, as llama.cpp, Ollama and LM Studio read it.

Source of names, shapes and the order of rotary halves: `gguf`, the package that llama.cpp publishes, and its
convert_hf_to_gguf.py, which is in no package. What is not known for certain is refused: a wrong pre-tokenizer or a
wrong rotary scale makes a file that loads, and answers badly.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from trainer.contract.spec import GgufType
from trainer.recipes.common.run import Refused

if TYPE_CHECKING:
    import gguf

FAMILIES = {"llama": "LLAMA", "mistral": "LLAMA", "qwen2": "QWEN2", "qwen3": "QWEN3"}
"""`model_type` of a configuration → what GGUF calls it."""
PRE_TOKENIZERS = {
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+": (
        "qwen2"
    ),
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)"
    r"|\s+": "llama-bpe",
    "": "gpt-2",  # ByteLevel's own expression
}
"""How a byte-level tokenizer cuts text before it merges bytes → llama.cpp's name of it."""

_FILE_TYPES = {"f32": "ALL_F32", "f16": "MOSTLY_F16", "bf16": "MOSTLY_BF16", "q8_0": "MOSTLY_Q8_0"}


class GgufFile:
    """What is needed to write one; made before a long merge, so that it is refused at once."""

    def __init__(self, model: Any, tokenizer: Any, kind: GgufType) -> None:
        """Raises Refused: the package is missing, or the model is none of those that are known."""
        try:
            import gguf  # noqa: PLC0415 - an extra of the recipes' environment
        except ImportError as exc:
            raise Refused("config", "gguf: the package gguf is not installed beside the recipes") from exc
        self._gguf, self._kind, self._model, self._tokenizer = gguf, kind, model, tokenizer
        self._config = config = model.config
        if config.model_type not in FAMILIES:
            known = ", ".join(FAMILIES)
            raise Refused("config", f"gguf: models of the type {config.model_type} are not known, only {known}")
        self._family = gguf.MODEL_ARCH[FAMILIES[config.model_type]]
        self._rope = dict(getattr(config, "rope_parameters", None) or {})
        if (scaled := self._rope.get("rope_type", "default")) != "default":
            raise Refused("config", f"gguf: rotary positions of the type {scaled} are not known, only the default")
        if getattr(config, "use_sliding_window", False) or getattr(config, "sliding_window", None):
            raise Refused("config", "gguf: a model with a sliding window is not known")
        self._pre = _pre_tokenizer(json.loads(tokenizer.backend_tokenizer.to_str()))

    def write(self, path: Path) -> None:
        """Write the file. One tensor at a time is copied, so it needs little memory beside the model."""
        gguf = self._gguf
        writer = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[self._family])
        try:
            self._tell_shape(writer)
            self._tell_tokens(writer, path.parent)
            named = self._named()
            for name, tensor in named:
                kind = self._type_of(tensor)
                block, size = gguf.GGML_QUANT_SIZES[kind]
                writer.add_tensor_info(
                    name, tuple(tensor.shape), np.dtype("float32"), tensor.numel() // block * size, raw_dtype=kind
                )
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_ti_data_to_file()
            for _, tensor in named:
                array = tensor.detach().to(device="cpu", dtype=torch.float32).contiguous().numpy()
                writer.write_tensor_data(gguf.quantize(array, self._type_of(tensor)))
        finally:
            writer.close()

    def _tell_shape(self, writer: gguf.GGUFWriter) -> None:
        config = self._config
        heads = config.num_attention_heads
        head = getattr(config, "head_dim", None) or config.hidden_size // heads
        writer.add_name(Path(config.name_or_path).name or config.model_type)
        writer.add_file_type(self._gguf.LlamaFileType[_FILE_TYPES[self._kind]])
        writer.add_quantization_version(self._gguf.GGML_QUANT_VERSION)
        writer.add_block_count(config.num_hidden_layers)
        writer.add_context_length(config.max_position_embeddings)
        writer.add_embedding_length(config.hidden_size)
        writer.add_feed_forward_length(config.intermediate_size)
        writer.add_head_count(heads)
        writer.add_head_count_kv(config.num_key_value_heads)
        writer.add_key_length(head)
        writer.add_value_length(head)
        writer.add_rope_dimension_count(head)
        writer.add_rope_freq_base(float(self._rope["rope_theta"]))
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
        writer.add_vocab_size(config.vocab_size)

    def _tell_tokens(self, writer: gguf.GGUFWriter, folder: Path) -> None:
        """`folder` holds what the tokenizer has saved."""
        gguf, tokenizer = self._gguf, self._tokenizer
        known = {number: token for token, number in tokenizer.get_vocab().items()}
        added = tokenizer.added_tokens_decoder
        tokens, types = [], []
        for number in range(self._config.vocab_size):
            token = known.get(number)
            if token is None:  # the embedding has more rows than the tokenizer has tokens
                tokens.append(f"[PAD{number}]")
                types.append(gguf.TokenType.UNUSED)
                continue
            tokens.append(token)
            special = number in added and added[number].special
            types.append(
                gguf.TokenType.CONTROL if special
                else gguf.TokenType.USER_DEFINED if number in added
                else gguf.TokenType.NORMAL
            )  # fmt: skip
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(self._pre)
        writer.add_token_list(tokens)
        writer.add_token_types(types)
        gguf.SpecialVocab(folder, load_merges=True, n_vocab=len(tokens)).add_to_gguf(writer, quiet=True)

    def _named(self) -> list[tuple[str, torch.Tensor]]:
        """(GGUF's name, tensor) of every weight. Refused: one has none there."""
        names = self._gguf.get_tensor_name_map(self._family, self._config.num_hidden_layers)
        found = []
        for name, tensor in self._model.state_dict().items():
            if name == "lm_head.weight" and self._config.tie_word_embeddings:
                continue  # the same tensor as the embedding
            told = names.get_name(name, try_suffixes=(".weight", ".bias"))
            if told is None:
                raise Refused("config", f"gguf: the weight {name} has no name in this format")
            found.append((told, self._in_order(name, tensor)))
        return found

    def _in_order(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        """In llama.cpp's LLAMA a rotary pair lies side by side, here in two halves."""
        if self._family != self._gguf.MODEL_ARCH.LLAMA or not (".q_proj." in name or ".k_proj." in name):
            return tensor
        heads = self._config.num_attention_heads if ".q_proj." in name else self._config.num_key_value_heads
        pairs = tensor.reshape(heads, 2, tensor.shape[0] // heads // 2, *tensor.shape[1:])
        return pairs.transpose(1, 2).reshape(tensor.shape)

    def _type_of(self, tensor: torch.Tensor) -> Any:
        """Norms and biases stay exact, as llama.cpp has it; so does what cannot be cut into blocks."""
        types = self._gguf.GGMLQuantizationType
        if tensor.dim() == 1:
            return types.F32
        if self._kind == "q8_0" and tensor.shape[-1] % self._gguf.GGML_QUANT_SIZES[types.Q8_0][0]:
            return types.F16
        return types[self._kind.upper()]


def _pre_tokenizer(tokenizer: dict[str, Any]) -> str:
    """llama.cpp's name of how a text is cut. `tokenizer`: the content of tokenizer.json."""
    pre = tokenizer["pre_tokenizer"] or {}
    steps = pre.get("pretokenizers", [pre])
    split = next((step["pattern"].get("Regex", "?") for step in steps if step.get("type") == "Split"), "")
    byte_level = any(step.get("type") == "ByteLevel" and step.get("use_regex") != bool(split) for step in steps)
    if tokenizer["model"].get("type") != "BPE" or not byte_level or split not in PRE_TOKENIZERS:
        raise Refused(
            "config", "gguf: only byte-level BPE tokenizers that cut text as Qwen, Llama 3 or GPT-2 are known"
        )
    return PRE_TOKENIZERS[split]
