"""Recipes as jobs of a Ray cluster, by its Jobs REST API: the worker needs no Ray, and any Ray that serves version 1 of
that API will do.

`[trainer] data_dir` is a folder that the worker and all nodes of the cluster share under one path, and so are the
interpreters of the recipes and the base models. So a run has the same files as on one machine: events, log,
checkpoints, STOP. What Ray is asked for is to start a driver of ours (`trainer.nodes.ray_driver`), and whether it still
runs. A lost cluster loses no job: ranks end when nobody renews their lease, and then the attempt is over.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import shlex
import ssl
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trainer import log
from trainer.contract.spec import RecipeName
from trainer.contract.worker import Device
from trainer.nodes import node, processes
from trainer.runners import recipe
from trainer.runners.base import Command, Unavailable
from trainer.runners.cluster import ClusterRunner, State, plan

TIMEOUT = 10.0
"""Seconds that the cluster has for an answer; with its head lost, it gives none."""
_GOING = ("PENDING", "RUNNING")
_MIB = 1 << 20


class RayRunner(ClusterRunner):
    """One Ray cluster. `worker`: the name under which its jobs are known there; `token`: empty if it has none."""

    def __init__(
        self, address: str, token: str, lease: float, worker: str, interpreter: Callable[[RecipeName], Path],
        threads: int = 1,
    ) -> None:  # fmt: skip
        super().__init__(lease)
        parts = urllib.parse.urlsplit(address.rstrip("/"))
        self._secure, self._host, self._prefix = parts.scheme == "https", parts.netloc, parts.path
        self._context = ssl.create_default_context() if self._secure else None
        self._token, self._worker = token, worker
        self._interpreter, self._threads = interpreter, threads
        self._devices: tuple[Device, ...] = ()
        self._silent = False

    def submit(self, command: Command) -> None:
        """Start a recipe's driver, unless it was started before by a call whose answer was lost.

        Raises:
            Unavailable: the cluster does not answer.
            OSError: it refuses the token or the job, or the folder cannot be written.
        """
        folder, id = command.folder, _submission(command.folder)
        recipe.copy_code(folder)
        if self._ask("GET", f"/api/jobs/{id}") is None:
            told = plan(command, self._interpreter(command.recipe), self._lease, self._threads)
            processes.write(folder / node.PLAN, told)
            (folder / node.KILL).unlink(missing_ok=True)  # of a worker that left before it could submit this
            self._ask("POST", "/api/jobs/", {
                "submission_id": id, "entrypoint": f"python -m trainer.nodes.ray_driver {shlex.quote(str(folder))}",
                "metadata": {"tunegate_worker": self._worker, "tunegate_folder": str(folder)},
                "runtime_env": {"env_vars": {"PYTHONPATH": str(folder / "code")}},
            })  # fmt: skip
        processes.write(folder / node.LAUNCHER, {"submission": id})

    def list_owned(self, root: Path) -> list[Path]:
        """Folders below `root` whose jobs the cluster has and has not ended. Raises Unavailable, OSError."""
        mine = [
            Path(job["metadata"]["tunegate_folder"]) for job in self._ask("GET", "/api/jobs/") or []
            if job["status"] in _GOING and (job.get("metadata") or {}).get("tunegate_worker") == self._worker
        ]  # fmt: skip
        return [folder for folder in mine if folder.is_relative_to(root)]

    def devices(self, slots: int, held: dict[str, str]) -> tuple[Device, ...]:
        """GPUs of all nodes, or `slots` of each node's CPU. While the cluster is silent, those that it had."""
        try:
            summary = (self._ask("GET", "/nodes?view=summary") or {})["data"]["summary"]
        except (OSError, Unavailable, KeyError) as exc:
            if not self._silent:
                log.event("ray.silent", level="warning", cause=str(exc))
            self._silent = True
            return self._devices
        self._silent = False
        # a node that has just come has not told of itself yet
        alive = [one for one in summary if "mem" in one and (one.get("raylet") or {}).get("state") == "ALIVE"]
        found = [part for one in sorted(alive, key=lambda one: str(one["ip"])) for part in _parts(one, slots)]
        self._devices = tuple(Device(index=index, **part) for index, part in enumerate(found))
        return self._devices

    def _state(self, folder: Path) -> State:
        try:
            job = self._ask("GET", f"/api/jobs/{_submission(folder)}")
        except Unavailable:
            return "unknown"
        return "going" if job is not None and job["status"] in _GOING else "over"

    def _cancel(self, folder: Path) -> None:
        self._ask("POST", f"/api/jobs/{_submission(folder)}/stop")

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """The cluster's answer; None: there is no such thing.

        Raises:
            Unavailable: it does not answer, or not with sense.
            OSError: it refuses.
        """
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        options: dict[str, Any] = {"context": self._context} if self._secure else {}
        connection = kind(self._host, timeout=TIMEOUT, **options)
        headers = {"content-type": "application/json"}
        if self._token:
            headers["authorization"] = f"Bearer {self._token}"
        try:
            connection.request(method, f"{self._prefix}{path}", None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            status, text = answer.status, answer.read()
            found = json.loads(text) if status < 300 else None
        except (OSError, http.client.HTTPException, ValueError) as exc:
            raise Unavailable(f"Ray at {self._host}: {type(exc).__name__}: {exc}") from exc
        finally:
            connection.close()
        return found if status < 300 else _refused(f"Ray at {self._host}: {status}", status, text)


def _refused(said: str, status: int, text: bytes) -> None:
    if status == 404:
        return
    words = text[-1000:].decode(errors="replace").strip()
    if status in (401, 403):
        raise PermissionError(f"{said}: it does not take the token of [trainer.ray] token: {words}")
    if status >= 500:
        raise Unavailable(f"{said}: {words}")
    raise OSError(f"{said}: {words}")


def _submission(folder: Path) -> str:
    """What Ray calls the run in a folder: the same at each call."""
    return f"tunegate-{hashlib.sha256(str(folder).encode()).hexdigest()[:24]}"


def _parts(machine: dict[str, Any], slots: int) -> list[dict[str, Any]]:
    """Devices of one node, as the dashboard tells of it, but no more than Ray gives; names begin with its address."""
    given = machine["raylet"].get("resourcesTotal", {})
    address, (total, available, *_) = str(machine["ip"]), machine["mem"]
    gpus = [
        {
            "uuid": f"{address}/{gpu['uuid']}", "name": str(gpu["name"]), "memory_mib": int(gpu["memoryTotal"]),
            "used_mib": int(gpu["memoryUsed"]), "percent": int(gpu.get("utilizationGpu") or 0), "node": address,
        }
        for gpu in (machine.get("gpus") or [])[: int(given.get("GPU", 0))]
    ]  # fmt: skip
    return gpus or [
        {
            "uuid": f"{address}/cpu-{index}", "name": str(machine["hostname"]), "node": address,
            "memory_mib": int(total) // _MIB // slots, "used_mib": int(total - available) // _MIB // slots,
            "percent": int(machine["cpu"]),
        }
        for index in range(min(slots, int(given.get("CPU", 0))))
    ]  # fmt: skip
