"""A stand-in for a model server: fake_engine.py PORT [MODE].

It answers GET /health, and has a helper process in its session that holds a file in /dev/shm, as real engines
do. Modes: ok; crash (ends with an error once it was ready); broken (ends with an error before that); silent
(never answers); stubborn (ignores SIGTERM, and so does its helper).
"""

from __future__ import annotations

import http.server
import mmap
import os
import signal
import subprocess
import sys
import threading
import time

HELPER = "helper"


class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return


def helper() -> None:
    descriptor = os.open(f"/dev/shm/tunegate-test-{os.getpid()}", os.O_RDWR | os.O_CREAT | os.O_EXCL)
    os.ftruncate(descriptor, 4096)
    kept = mmap.mmap(descriptor, 4096)
    print("mapped", flush=True)
    time.sleep(300)
    kept.close()


def main(port: int, mode: str) -> None:
    if mode == "broken":
        print("INFO: loading. A limit may cause errors like `OSError: [Errno 24]` later", flush=True)
        print("(Worker pid=7) ERROR 01-01 00:00:00 [core.py:1] ValueError: no weights in the folder", flush=True)
        sys.exit("RuntimeError: engine core initialization failed")
    if mode == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # inherited by the helper
    child = subprocess.Popen([sys.executable, __file__, HELPER], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    if mode == "crash":
        threading.Timer(0.5, lambda: os._exit(3)).start()
    if mode == "silent":
        time.sleep(300)
    http.server.ThreadingHTTPServer(("127.0.0.1", port), Health).serve_forever()


if __name__ == "__main__":
    if sys.argv[1] == HELPER:
        helper()
    else:
        main(int(sys.argv[1]), sys.argv[2])
