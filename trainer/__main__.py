"""`python -m trainer --config FILE`: runs the engines that the file describes until told to stop."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from pathlib import Path

from trainer import log
from trainer.engines.supervisor import EngineSupervisor, Policy
from trainer.engines.vllm import launch
from trainer.settings import Engine, SettingsError, load


def main() -> int:
    """Read the configuration and supervise its engines; returns the exit status."""
    parser = argparse.ArgumentParser(prog="tunegate trainer", description="Run the local model engines.")
    parser.add_argument("--config", type=Path, default=Path("config.toml"), help="configuration file (%(default)s)")
    parser.add_argument("--check", action="store_true", help="only say whether the [[engine]] tables are right")
    options = parser.parse_args()
    try:
        settings = load(options.config)
    except SettingsError as exc:
        sys.stderr.write(f"{exc}\n")
        return 2
    if options.check:
        return 0
    if not settings.engines:
        sys.stderr.write(f"{options.config} has no [[engine]] table: there is nothing to run\n")
        return 2
    asyncio.run(_supervise(settings.engines))
    return 0


async def _supervise(engines: tuple[Engine, ...]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    log.event("trainer.started", engines=[engine.name for engine in engines], pid=os.getpid())
    async with asyncio.TaskGroup() as group:
        running = [group.create_task(_supervisor(engine).run()) for engine in engines]
        await stop.wait()
        log.event("trainer.stopping")
        for task in running:
            task.cancel()
    log.event("trainer.stopped")


def _supervisor(engine: Engine) -> EngineSupervisor:
    policy = Policy(start_timeout=engine.start_timeout)
    return EngineSupervisor(engine.name, launch(engine, os.environ), engine.log_file, policy)


if __name__ == "__main__":
    sys.exit(main())
