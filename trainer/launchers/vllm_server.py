"""Starts vLLM's server as `python -m vllm.entrypoints.openai.api_server` does, only sooner: vllm_server.py ARGUMENTS.

Run with the interpreter of an environment that has vLLM. It imports vLLM without the garbage collector, and on a CPU
the server's other processes start as copies of the first, where that is safe: by itself vLLM imports everything in each
of them again, which takes longer than all the rest of its start.
"""

from __future__ import annotations

import gc
import importlib
import os
import runpy
import sys
from collections.abc import Mapping
from multiprocessing import resource_tracker
from typing import Any

_SERVER = "vllm.entrypoints.openai.api_server"
_METHOD = "VLLM_WORKER_MULTIPROC_METHOD"


def main() -> None:
    """Run the server with the arguments of this program."""
    gc.disable()  # the objects of an import stay; to look through them again and again takes a quarter of its time
    importlib.import_module(_SERVER)
    del sys.modules[_SERVER]  # it runs as the main program; what it imported stays
    gc.freeze()
    gc.enable()
    if may_fork(os.environ):
        _fork_on_a_cpu()
    runpy.run_module(_SERVER, run_name="__main__", alter_sys=True)


def may_fork(environ: Mapping[str, str]) -> bool:
    """Whether a copy of the server's process can compute as a new process does.

    With one thread OpenMP keeps no others, which a copy would lack and wait for; and threads that are not bound to
    cores need nothing that has to be there before a process begins.
    """
    one_thread = environ.get("OMP_NUM_THREADS") == "1" and environ.get("VLLM_CPU_OMP_THREADS_BIND") == "nobind"
    return one_thread and _METHOD not in environ


def _fork_on_a_cpu() -> None:
    """Of vLLM's platforms only the CPU's sets `spawn` for every configuration; it does so late, and here is undone."""
    platform: Any = type(importlib.import_module("vllm.platforms").current_platform)
    if platform.device_type != "cpu":
        return
    update = platform.check_and_update_config

    def update_and_fork(vllm_config: object) -> None:
        update(vllm_config)
        os.environ[_METHOD] = "fork"

    platform.check_and_update_config = staticmethod(update_and_fork)
    resource_tracker.ensure_running()  # else each copy has its own, and one that is killed leaves its shared memory


if __name__ == "__main__":
    main()
