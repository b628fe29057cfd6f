"""Counts of tokens that control asks for: one after another, each in a process of the recipes' environment.

They need no device, so that they do not wait for those that jobs hold.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from trainer import log
from trainer.client import Client, Unreachable
from trainer.contract.worker import CountOrder, CountStatus, TokenLengths
from trainer.nodes.processes import inherited

PATIENCE = 1800.0
"""Seconds that one count may take."""


class _Said(BaseModel):
    """What the process has written."""

    model_config = ConfigDict(extra="forbid")

    lengths: TokenLengths | None = None
    failure: str = ""


class Counting:
    """Does what it is told to by `want`, in a thread of its own."""

    def __init__(self, root: Path, client: Client, python: Path) -> None:
        self._root, self._client, self._python = root, client, python
        self._ended: dict[str, CountStatus] = {}
        self._current: CountOrder | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False
        self._thread = threading.Thread()
        self._lock = threading.Lock()

    @property
    def ended(self) -> tuple[CountStatus, ...]:
        """Those whose end control has not taken yet."""
        with self._lock:
            return tuple(self._ended.values())

    def want(self, orders: Sequence[CountOrder]) -> None:
        """Begin with the first of these that has not ended; end what is not among them."""
        wanted = {one.count: one for one in orders}
        with self._lock:
            self._ended = {id: said for id, said in self._ended.items() if id in wanted}
            waiting = [one for id, one in wanted.items() if id not in self._ended]
            unwanted = self._current is not None and self._current.count not in wanted
        if unwanted:
            self._kill()
        if waiting and not self._thread.is_alive():
            self._current = waiting[0]
            self._thread = threading.Thread(target=self._run, args=(waiting[0],), name="counting", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """End what is under way; control asks again."""
        self._closed = True
        self._kill()

    def _kill(self) -> None:
        with self._lock:
            if self._process is not None:
                self._process.kill()

    def _run(self, order: CountOrder) -> None:
        folder = self._root / "counts" / order.count
        try:
            said = self._counted(order, folder)
        except Unreachable as exc:  # asked for again at the next heartbeat that gets through
            log.event("count.waits", level="warning", count=order.count, cause=str(exc))
            return
        except (OSError, ValueError) as exc:
            said = CountStatus(count=order.count, failure=f"{type(exc).__name__}: {exc}"[:1000])
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        log.event("count.ended", count=order.count, base=order.base.id, failure=said.failure)
        with self._lock:
            self._ended[order.count] = said

    def _counted(self, order: CountOrder, folder: Path) -> CountStatus:
        rows = self._root / "data" / f"{order.data.sha256}.jsonl"
        if not rows.exists():
            self._client.get_data(order.data.version, order.data.split, rows, order.data.sha256)
        folder.mkdir(parents=True, exist_ok=True)
        told = {"rows": str(rows), "base": order.base.model_dump(mode="json")}
        (folder / "count.json").write_text(json.dumps(told), encoding="utf-8")
        offline = {"HF_HUB_OFFLINE": "1"} if order.base.source == "path" else {}
        environment = {
            **inherited(), **offline, "PYTHONPATH": str(Path(__file__).parents[1]), "CUDA_VISIBLE_DEVICES": "",
            "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_DISABLE_TELEMETRY": "1",
        }  # fmt: skip
        with (folder / "log.txt").open("wb") as output:
            process = subprocess.Popen(
                [str(self._python), "-m", "trainer.recipes.lengths", str(folder)], cwd=folder, env=environment,
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip
            with self._lock:
                self._process = process
                if self._closed:
                    process.kill()
            try:
                status = process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise OSError(f"the count took longer than {PATIENCE:.0f} seconds") from None
            finally:
                with self._lock:
                    self._process = None
        if status:
            told_last = (folder / "log.txt").read_text(encoding="utf-8", errors="replace").strip()[-500:]
            raise OSError(f"the count ended with status {status}: {told_last}")
        found = _Said.model_validate_json((folder / "lengths.json").read_text(encoding="utf-8"))
        return CountStatus(count=order.count, lengths=found.lengths, failure=found.failure[:1000])
