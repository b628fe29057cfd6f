"""`python -m trainer --config FILE`: runs the engines that the file describes, and jobs that control gives, until told
to stop.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from trainer import log
from trainer.client import Client
from trainer.engines.adapters import EngineAdapters
from trainer.engines.supervisor import EngineSupervisor, Policy
from trainer.engines.vllm import launch
from trainer.runners.base import Runner
from trainer.runners.local import LocalRunner
from trainer.runners.ray import RayRunner
from trainer.runners.slurm import SlurmRunner
from trainer.settings import Engine, Settings, SettingsError, WorkerTable, load, secret
from trainer.tracing import Tracer, open_tracer
from trainer.worker import Worker


def main() -> int:
    """Read the configuration and supervise its engines; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="tunegate trainer", description="Run training jobs and the local model engines."
    )
    parser.add_argument("--config", type=Path, default=Path("config.toml"), help="configuration file (%(default)s)")
    parser.add_argument("--check", action="store_true", help="only say whether its tables are right")
    options = parser.parse_args()
    try:
        settings = load(options.config)
    except SettingsError as exc:
        sys.stderr.write(f"{exc}\n")
        return 2
    if options.check:
        return 0
    if not settings.engines and settings.control.url is None:
        sys.stderr.write(f"{options.config} has neither [[engine]] tables nor [control] url: there is nothing to do\n")
        return 2
    try:
        client, runner = _client(settings), _runner(settings.worker)
        tracer = open_tracer(settings.worker.otlp_endpoint)
        keys = {
            one.name: secret(one.api_key, f"[[external_engine]] {one.name}: api_key") if one.api_key else ""
            for one in settings.external
        }
    except SettingsError as exc:
        sys.stderr.write(f"{options.config}: {exc}\n")
        return 2
    asyncio.run(_work(settings, client, runner, keys, tracer))
    return 0


def _client(settings: Settings) -> Client | None:
    """The way to control; None: there is none, and only engines are run."""
    control = settings.control
    return (
        None if control.url is None else Client(control.url, secret(control.token, "[control] token"), control.ca_file)
    )


def _runner(table: WorkerTable) -> Runner:
    """Where jobs run."""
    if table.runner == "local":
        return LocalRunner(table.interpreter)
    if table.runner == "slurm":
        slurm = table.slurm
        return SlurmRunner(
            slurm.partition, slurm.options, slurm.python, slurm.gpu_memory_mib, slurm.lease, table.interpreter
        )
    token = secret(table.ray.token, "[trainer.ray] token") if table.ray.token else ""
    return RayRunner(table.ray.address, token, table.ray.lease, table.worker_name, table.interpreter)


async def _work(
    settings: Settings, client: Client | None, runner: Runner, keys: dict[str, str], tracer: Tracer | None
) -> None:
    stop, ended = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    log.event("trainer.started", engines=[engine.name for engine in settings.engines], pid=os.getpid())
    async with asyncio.TaskGroup() as group:
        supervisors = [_supervisor(engine) for engine in settings.engines]
        running = [group.create_task(supervisor.run()) for supervisor in supervisors]
        working = None
        if client is not None:
            worker = _worker(settings, client, runner, supervisors, keys, tracer)
            working = group.create_task(asyncio.to_thread(worker.run, ended))
        await stop.wait()
        log.event("trainer.stopping")
        ended.set()
        if working is not None:
            await working
        for task in running:
            task.cancel()
    log.event("trainer.stopped")


def _worker(
    settings: Settings,
    client: Client,
    runner: Runner,
    supervisors: Sequence[EngineSupervisor],
    keys: dict[str, str],
    tracer: Tracer | None,
) -> Worker:
    table = settings.worker
    engines = [
        EngineAdapters(engine, table.data_dir, client, lambda supervisor=supervisor: supervisor.starts)  # type: ignore[misc]
        for engine, supervisor in zip(settings.engines, supervisors, strict=True)
    ]
    engines += [EngineAdapters(one, table.data_dir, client, key=keys[one.name]) for one in settings.external]
    return Worker(table, client, runner, tuple(engines), tracer)


def _supervisor(engine: Engine) -> EngineSupervisor:
    policy = Policy(start_timeout=engine.start_timeout)
    return EngineSupervisor(engine.name, launch(engine, os.environ), engine.log_file, policy)


if __name__ == "__main__":
    sys.exit(main())
