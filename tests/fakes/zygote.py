"""`tunegate` for tests that call it often: each call is a process of its own, forked from one that has loaded the code.

`python -m tests.fakes.zygote SOCKET` serves; a shell script that `command` writes is what tests put into their PATH. A
call hands over its arguments, folder, environment and standard streams, and ends with the status of the process.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import socket
import sys
import traceback
import warnings
from pathlib import Path
from typing import NoReturn

from control import cli

CLIENT = """#!{python} -IS
import json, os, socket, sys
link = socket.socket(socket.AF_UNIX)
link.connect({address!r})
call = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
socket.send_fds(link, [len(call).to_bytes(4, "big")], [0, 1, 2])
link.sendall(call)
raise SystemExit(int(link.recv(8) or b"70"))
"""
_MOST = 1_000_000


def command(path: Path, address: Path) -> None:
    """Write the command that calls the server at `address`."""
    path.write_text(CLIENT.format(python=sys.executable, address=str(address)))
    path.chmod(0o700)


def main(address: str) -> None:
    """Listen, and serve until killed."""
    importlib.import_module("control.commands")
    importlib.import_module("gateway.commands")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address)
        server.listen()
        while True:
            link, _ = server.accept()
            if os.fork():
                link.close()
                continue
            server.close()
            _serve(link)


def _serve(link: socket.socket) -> NoReturn:
    """One call: this process waits for the one that does it."""
    size, streams, _, _ = socket.recv_fds(link, 4, 3)
    content = b""
    while len(content) < int.from_bytes(size, "big"):
        content += link.recv(_MOST)
    arguments, folder, environment = json.loads(content)
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        link.sendall(str(os.waitstatus_to_exitcode(status)).encode())
        os._exit(0)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    os.execv = _run  # type: ignore[assignment]
    _call(arguments)


def _run(_: str, arguments: list[str]) -> NoReturn:
    """In place of another program: what follows `python -P -m`."""
    sys.argv = arguments[3:]
    with warnings.catch_warnings(action="ignore"):  # its module is loaded already
        runpy.run_module(arguments[3], run_name="__main__")
    raise SystemExit(0)


def _call(arguments: list[str]) -> NoReturn:
    status = 1
    try:
        status = cli.main(arguments)
    except SystemExit as exc:
        status = exc.code if isinstance(exc.code, int) else int(exc.code is not None)
    finally:
        if sys.exception() is not None:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    main(sys.argv[1])
