"""`tunegate up`: everything on one machine. Prepares a first run, starts all planes, says when it is ready."""

from __future__ import annotations

import argparse
import asyncio
import functools
import http.client
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from control import firstrun
from control.firstrun import Files, LocalEngine
from control.lock import DataLock, Locked
from control.supervisor import Child, Supervisor, end, start_process
from control.welcome import welcome

_PYTHON = (sys.executable, "-P", "-m")  # -P: a folder `gateway` in the working directory is not ours
_ENGINE_PORT = 8101
_MILVUS_PORT = 19_530
_MILVUS_URI = "TUNEGATE_KNOWLEDGE_MILVUS_URI"
_CONTROL_PATIENCE = 10.0  # seconds until the gateway starts all the same, on the configuration that it has kept
_PATIENCE = 120.0  # seconds that the welcome waits for slow engines


class UpError(Exception):
    """`tunegate up` cannot go on; the message says why and what to do."""


def main(argv: Sequence[str]) -> int:
    """Run until Ctrl-C or SIGTERM; returns the exit status."""
    parser = argparse.ArgumentParser(prog="tunegate up", description="Run everything on this machine.")
    parser.add_argument("--data", type=Path, default=Path("var"), metavar="DIR", help="data directory (%(default)s)")
    parser.add_argument("--listen", metavar="ADDRESS:PORT", help="where the gateway listens (127.0.0.1:8000)")
    parser.add_argument("--console", metavar="ADDRESS:PORT", help="where control listens (127.0.0.1:8080)")
    parser.add_argument(
        "--vllm-python",
        type=Path,
        default=Path(".venv-vllm/bin/python"),
        metavar="FILE",
        help="interpreter of the environment with vLLM, for the first run (%(default)s)",
    )
    options = parser.parse_args(argv)
    data: Path = options.data.absolute()
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        with DataLock(data):
            asyncio.run(_run(_Up(Files(data), options.listen, options.console, options.vllm_python.absolute())))
    except (Locked, UpError) as exc:
        _say(f"tunegate up: {exc}")
        return 1
    return 0


async def _run(up: _Up) -> None:
    """From preparation to the last child's end; the first signal, whenever it comes, starts the end."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    work = asyncio.create_task(up.bring_up())
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({work, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            work.result()
            await stopping
        _say("stopping …")
    finally:
        work.cancel()
        stopping.cancel()
        await asyncio.gather(work, stopping, return_exceptions=True)
        await up.shut_down()
    _say("stopped")


class _Up:
    """One run of `tunegate up`."""

    def __init__(self, files: Files, listen: str | None, console: str | None, vllm_python: Path) -> None:
        self._files = files
        self._asked_listen = listen or os.environ.get("TUNEGATE_GATEWAY_LISTEN")
        self._asked_console = console or os.environ.get("TUNEGATE_CONSOLE_LISTEN")
        self._vllm_python = vllm_python
        self._supervisor: Supervisor | None = None

    async def bring_up(self) -> None:
        """Prepare, start, wait until everything answers, and say so."""
        files = self._files
        first = not files.config.exists()
        config = {} if first else _read(files.config)
        listen = self._free(self._asked_listen or _listen(config, "gateway", "127.0.0.1:8000"), "--listen")
        console = None
        if first or config.get("control", {}).get("url"):
            console = self._free(self._asked_console or _listen(config, "console", "127.0.0.1:8080"), "--console")
        if first and console is not None:
            await self._first_run(listen, console)
            config = _read(files.config)
        await self._build_model(config)
        environment = _environment(config, listen, console)
        milvus = self._milvus(config, environment, console)
        self._supervisor = Supervisor(_say)
        arguments = ("--config", str(files.config))
        if config.get("engine") or config.get("control", {}).get("url"):
            # Engines take longer than all the rest together: they start while the rest of the file is looked at.
            await _check(files.config, environment, ("trainer", *arguments, "--check"))
            trainer = (*_PYTHON, "trainer", *arguments)
            await self._supervisor.start([Child("trainer", trainer, grace=5.0, env=environment)])
        controls = [("control.commands", "check", *arguments)] if config.get("control", {}).get("url") else []
        await _check(files.config, environment, ("gateway", "config", "check", str(files.config)), *controls)
        await self._supervisor.start([*milvus, *_planes(arguments, environment, console)])
        if config.get("engine"):
            _say("starting the gateway and vLLM, which takes half a minute …")
        await _until_answered(*_split(listen), "/readyz", deadline=None)
        waiting = await _engines_without_answer(config)
        _say(welcome(f"http://{listen}", console and f"http://{console}", files, waiting, first=first))

    async def shut_down(self) -> None:
        """Stop what runs."""
        if self._supervisor is not None:
            await self._supervisor.stop()

    def _free(self, listen: str, option: str) -> str:
        """The address, if nobody uses it."""
        host, port = _split(listen)
        if firstrun.port_taken(host, port):
            raise UpError(
                f"{listen} is used by another program. Stop that, or choose another port: "
                f"tunegate up {option} {host}:{port + 1}   (make run ARGS='{option} {host}:{port + 1}')"
            )
        return listen

    async def _first_run(self, listen: str, console: str) -> None:
        """Secrets, then the database, then the configuration: when that is there, everything is."""
        files, engine = self._files, self._local_engine()
        wanted = firstrun.make_secrets(files) | firstrun.served(engine)
        partial = files.config.with_name("config.toml.first")
        firstrun.write_private(partial, firstrun.config_text(files, listen, console, engine))
        argv = [*_PYTHON, "control.commands", "bootstrap", "--config", str(partial)]
        done = await asyncio.to_thread(
            subprocess.run, argv, input=json.dumps(wanted), check=False, capture_output=True, text=True
        )
        if done.returncode != 0:
            raise UpError(f"the database could not be filled:\n{done.stdout}{done.stderr}".rstrip())
        partial.replace(files.config)
        _say(f"wrote {files.config}, {files.first_password} and {files.first_key}")

    def _local_engine(self) -> LocalEngine | None:
        if not firstrun.has_vllm(self._vllm_python):
            _say(
                f"vLLM is not installed in {self._vllm_python.parent.parent} (`make install` says why): "
                "the models tiny, alpha and beta will be answered by the dummy provider"
            )
            return None
        port = firstrun.free_port(_ENGINE_PORT)
        if port != _ENGINE_PORT:
            _say(f"port {_ENGINE_PORT} is used by another program: vLLM will listen on {port}")
        return LocalEngine(self._vllm_python, port)

    def _milvus(self, config: dict[str, Any], environment: dict[str, str], console: str | None) -> list[Child]:
        """Milvus Lite in a process of its own, where nothing names another Milvus; `environment` learns its address.

        It knows no passwords, so it listens on loopback only.
        """
        named = environment.get(_MILVUS_URI) or config.get("knowledge", {}).get("milvus_uri")
        if console is None or named or importlib.util.find_spec("milvus_lite") is None:
            return []
        port = firstrun.free_port(_MILVUS_PORT)
        environment[_MILVUS_URI] = f"http://127.0.0.1:{port}"
        argv = (
            *_PYTHON, "milvus_lite", "server", "--data-dir", str(self._files.data / "milvus"), "--host", "127.0.0.1",
            "--port", str(port),
        )  # fmt: skip
        return [Child("milvus", argv, grace=4.0)]

    async def _build_model(self, config: dict[str, Any]) -> None:
        """Build the tiny model if an engine serves it and it is not there yet."""
        folder = self._files.model
        engine = next((e for e in config.get("engine", []) if Path(e["model"]) == folder / "base"), None)
        if engine is None or folder.exists():
            return
        _say("building the tiny model and its two adapters, which takes ten seconds …")
        folder.parent.mkdir(parents=True, exist_ok=True)
        argv = [engine["python"], str(_recipe("tiny_model.py")), str(folder)]
        env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        process = await start_process(argv, {**env, "HF_HUB_OFFLINE": "1"})
        try:
            status = await process.wait()
        finally:
            await end(process, grace=2.0)
        if status != 0:
            raise UpError(f"the tiny model could not be built (see above): {' '.join(argv)}")


def _environment(config: dict[str, Any], listen: str, console: str | None) -> dict[str, str]:
    """What the options of this start say instead of the file."""
    environment = {**os.environ, "TUNEGATE_GATEWAY_LISTEN": listen}
    if console is not None:
        environment |= {"TUNEGATE_CONSOLE_LISTEN": console, "TUNEGATE_CONTROL_URL": f"http://{console}"}
        if not config.get("console", {}).get("gateway_url"):  # set where browsers come through a proxy
            environment.setdefault("TUNEGATE_CONSOLE_GATEWAY_URL", f"http://{listen}")
        if "cors_origins" not in config.get("gateway", {}):  # the console's chat calls the gateway from the browser
            environment.setdefault("TUNEGATE_GATEWAY_CORS_ORIGINS", ",".join(_origins(config, console)))
    return environment


def _origins(config: dict[str, Any], console: str) -> list[str]:
    """Origins of the console's pages, under each of the names that a browser on this machine may use."""
    host, port = _split(console)
    local = host in ("localhost", "0.0.0.0", "::", "::1") or host.startswith("127.")
    named = [f"[{host}]" if ":" in host else host, *(("127.0.0.1", "localhost") if local else ())]
    suffix = "" if port == 80 else f":{port}"  # browsers leave out the port that http has anyway
    origins = [f"http://{name}{suffix}".lower() for name in named]
    if public := config.get("console", {}).get("public_url"):
        parts = urlsplit(public)
        origins.append(f"{parts.scheme}://{parts.netloc}".lower())
    return list(dict.fromkeys(origins))


def _planes(arguments: tuple[str, ...], environment: dict[str, str], console: str | None) -> list[Child]:
    """In order of start; stopped in reverse: the gateway before what it sends requests and usage to."""
    children = []
    if console is not None:
        control = (*_PYTHON, "control.commands", "serve", *arguments)
        answers = functools.partial(_until_answered, *_split(console), "/healthz", time.monotonic() + _CONTROL_PATIENCE)
        children.append(Child("control", control, grace=2.0, env=environment, answers=answers))
    gateway = (*_PYTHON, "gateway", "serve", *arguments)
    children.append(Child("gateway", gateway, grace=4.0, env=environment))
    return children


async def _check(config_file: Path, environment: dict[str, str], *commands: tuple[str, ...]) -> None:
    """Refuse a configuration with mistakes now, instead of restarting processes that refuse it again."""
    run = functools.partial(subprocess.run, check=False, capture_output=True, text=True, env=environment)
    for result in await asyncio.gather(*(asyncio.to_thread(run, (*_PYTHON, *command)) for command in commands)):
        if result.returncode != 0:
            raise UpError(f"{config_file} has mistakes:\n{result.stdout}{result.stderr}".rstrip())


async def _engines_without_answer(config: dict[str, Any]) -> list[str]:
    """Wait for all engines, but not forever; returns the names of those that do not answer."""
    deadline = time.monotonic() + _PATIENCE
    missing = []
    for engine in config.get("engine", []):
        if not await _until_answered(engine.get("host", "127.0.0.1"), engine["port"], "/health", deadline):
            missing.append(engine["name"])
    return missing


async def _until_answered(host: str, port: int, path: str, deadline: float | None) -> bool:
    while not await asyncio.to_thread(_answers, host, port, path):
        if deadline is not None and time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.1)
    return True


def _answers(host: str, port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1" if host == "0.0.0.0" else host, port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):  # not listening yet: what the caller wants to know
        return False
    finally:
        connection.close()


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise UpError(f"{path}: {exc}") from exc


def _listen(config: dict[str, Any], table: str, default: str) -> str:
    return str(config.get(table, {}).get("listen", default))


def _split(listen: str) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) <= 65_535:
        raise UpError(f"{listen!r} is not address:port, such as 127.0.0.1:8000")
    return host.strip("[]"), int(port)


def _recipe(name: str) -> Path:
    """A training recipe's file, found without importing the trainer."""
    spec = importlib.util.find_spec("trainer")
    if spec is None or spec.origin is None:
        raise UpError("the trainer package is not installed")
    return Path(spec.origin).parent / "recipes" / name


def _say(text: str) -> None:
    print(text, flush=True)
