"""Adapters of one engine: loaded, tried and unloaded while it runs, until it has what control wants.

Names are never used again for other weights, since an engine may answer from what it had cached under a name. Before an
adapter counts as loaded, it must answer as it did after training: an engine that has mixed up adapters is found out.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from trainer import log
from trainer.client import Client, Unreachable
from trainer.contract.worker import MODELS, AdapterOrder, EngineAdapter, EngineStatus
from trainer.engines.server import Server
from trainer.hashes import weights_sha256
from trainer.settings import Engine, ExternalEngine

EVERY = 2.0
"""Seconds between looks at what the engine has."""
ALIKE = 12
"""Characters of an answer that must be the same: kernels differ in the last digits, and a long answer may fork."""


class Refused(Exception):
    """The engine cannot have an adapter; the message says why."""


class EngineAdapters:
    """Brings the adapters of an engine in line with what is wanted, in a thread of its own."""

    def __init__(
        self,
        engine: Engine | ExternalEngine,
        root: Path,
        client: Client,
        starts: Callable[[], int] = lambda: 0,
        key: str = "",
    ) -> None:
        """`starts`: how often the engine has been started, if that is done here. `key`: of an external one."""
        self.name = engine.name
        self.external = isinstance(engine, ExternalEngine)
        held = "" if isinstance(engine, ExternalEngine) else engine.env.get("CUDA_VISIBLE_DEVICES", "")
        self.devices: tuple[str, ...] = tuple(device for device in held.split(",") if device.startswith("GPU-"))
        self._engine, self._root, self._client = engine, root.absolute() / "adapters", client
        self._seen_root = (isinstance(engine, ExternalEngine) and engine.adapters_dir) or self._root
        """Where the engine sees the adapters' folders."""
        self._server = Server(engine, key)
        self._base = engine.name if isinstance(engine, ExternalEngine) else engine.base_name
        self._wanted: tuple[AdapterOrder, ...] = ()
        self._states: dict[str, EngineAdapter] = {}
        self._starts, self._start = starts, -1
        self._taken: set[str] = set()
        """Names that have taken a slot since the engine was started."""
        self._ready, self._trouble, self._latency = False, "", 0.0
        self._models: tuple[str, ...] = ()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"adapters-{engine.name}", daemon=True)
        self._thread.start()

    @property
    def status(self) -> EngineStatus:
        """For the heartbeat."""
        engine = self._engine
        return EngineStatus(
            name=engine.name, base=self._base, model=self._model(), base_sha256=self._weights(), url=engine.url,
            state="ready" if self._ready else "failed" if self.external else "starting", external=self.external,
            message=self._trouble, latency_ms=self._latency if self._ready else None, models=self._models,
            max_loras=engine.published_adapters, max_lora_rank=engine.max_lora_rank,
            adapters=tuple(self._states.values()),
        )  # fmt: skip

    def _model(self) -> str:
        model = self._engine.model
        return model if isinstance(model, str) else str(model.absolute())

    def _weights(self) -> str:
        folder = Path(self._model())
        return weights_sha256(folder) if folder.is_dir() else ""

    def want(self, adapters: Sequence[AdapterOrder]) -> None:
        """From now on the engine should have these."""
        self._wanted = tuple(adapters)

    def close(self) -> None:
        """Look after it no more."""
        self._closed.set()

    def _run(self) -> None:
        while not self._closed.wait(EVERY):
            try:
                self._turn()
            except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError) as exc:
                self._ready, self._models = False, ()
                self._trouble = f"the engine does not answer: {_shown(str(exc) or type(exc).__name__, 500)}"
                self._states = {one.name: self._as(one, "waiting", self._trouble) for one in self._wanted}

    def _turn(self) -> None:
        there = self._loaded()
        self._ready, self._trouble = True, ""
        wanted = {one.name: one for one in self._wanted}
        if (starts := self._starts()) != self._start:
            self._taken, self._start = set(), starts
        for name, root in there.items():
            if name not in wanted and Path(root).is_relative_to(self._seen_root):
                self._server.post("/v1/unload_lora_adapter", {"lora_name": name})
                log.event("adapter.unloaded", engine=self.name, adapter=name)
        states = {name: state for name, state in self._states.items() if name in wanted}
        for name, one in wanted.items():
            known = states[name].state if name in states else ""
            if known == "failed" or (known == "loaded" and name in there):  # failed: for this engine
                continue
            states[name] = self._as(one, "loading", "")
            self._states = states
            states[name] = self._load(one, name in there)
        self._states = states

    def _load(self, one: AdapterOrder, there: bool) -> EngineAdapter:
        try:
            if not there:
                if full := self._full(one.name):
                    return self._as(one, "waiting", full)
                self._taken.add(one.name)
                self._put(one)
            self._try(one)
        except Unreachable as exc:
            return self._as(one, "waiting", str(exc))
        except Refused as exc:
            log.event("adapter.refused", level="error", engine=self.name, adapter=one.name, cause=str(exc))
            return self._as(one, "failed", str(exc))
        log.event("adapter.loaded", engine=self.name, adapter=one.name)
        return self._as(one, "loaded", "")

    def _full(self, name: str) -> str:
        """Why there is no slot for one more. Unloading frees none in vLLM (issue 54839): on a GPU the least recently
        used one is given to another adapter, but on a CPU, with the last slot in use, the base answers as an adapter.
        """
        slots = self._engine.published_adapters
        if self.devices or self.external:
            taken = sum(state.state == "loaded" for state in self._states.values())
            return f"all {slots} slots for adapters are taken" if taken >= slots else ""
        if name in self._taken or len(self._taken) < slots:
            return ""
        return (
            f"all {slots} slots for adapters were used since this engine was started, and a CPU frees none: restart it"
        )

    def _put(self, one: AdapterOrder) -> None:
        own = self._weights()
        if one.base_sha256 and own and one.base_sha256 != own:
            raise Refused("it was trained on other weights than those of this engine's base model")
        folder = self._root / one.adapter
        try:
            self._client.get_adapter(one, folder)
        except ValueError as exc:
            raise Refused(str(exc)) from exc
        status, text = self._server.post(
            "/v1/load_lora_adapter", {"lora_name": one.name, "lora_path": str(self._seen_root / one.adapter)}
        )
        if self.external and status in (404, 405, 501) and '"error"' not in text:
            raise Refused(
                f"the engine at {self._engine.url} has no way to load adapters (POST /v1/load_lora_adapter: {status}): "
                f"let it serve this one as {one.name!r} by itself, or start vLLM with --enable-lora and "
                "VLLM_ALLOW_RUNTIME_LORA_UPDATING=1"
            )
        if status != 200:
            raise Refused(f"the engine refused it ({status}): {text[:500]}")

    def _try(self, one: AdapterOrder) -> None:
        """The identity probe."""
        wrong = []
        for probe in one.probes:
            body = {"model": one.name, "messages": probe.messages, "temperature": 0, "max_tokens": 24}
            status, text = self._server.post("/v1/chat/completions", body)
            if status != 200:
                raise Refused(f"it does not answer ({status}): {text[:500]}")
            try:
                said = str(json.loads(text)["choices"][0]["message"]["content"] or "")
            except (ValueError, LookupError, TypeError) as exc:
                raise Refused(f"it does not answer with sense: {text[:500]}") from exc
            if said[:ALIKE] != probe.text[:ALIKE]:
                wrong.append(f"{said[:60]!r} instead of {probe.text[:60]!r}")
        if len(wrong) * 2 > len(one.probes):
            self._server.post("/v1/unload_lora_adapter", {"lora_name": one.name})
            raise Refused(f"it does not answer as it did after training: {'; '.join(wrong[:3])}")

    def _loaded(self) -> dict[str, str]:
        """Name and folder of each adapter. Only vLLM tells adapters from base models; of others every model counts."""
        began = time.monotonic()
        models = self._server.models()
        self._latency = round(1000 * (time.monotonic() - began), 1)
        self._models = tuple(_shown(str(one["id"]), 200) for one in models[:MODELS])
        if self.external:
            self._base = next((str(one["id"]) for one in models if not one.get("parent")), self.name)
        return {
            str(one["id"]): str(one.get("root") or "") for one in models
            if one.get("parent") or (self.external and one["id"] != self._base)
        }  # fmt: skip

    @staticmethod
    def _as(one: AdapterOrder, state: str, message: str) -> EngineAdapter:
        return EngineAdapter(name=one.name, state=state, message=message)  # type: ignore[arg-type]


def _shown(text: str, most: int) -> str:
    """What a server said, without characters that control would not take."""
    return "".join(one if one.isprintable() else " " for one in text[:most])
