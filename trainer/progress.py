"""What a run tells, as a bar on a terminal or as lines in a file."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, TextIO

WIDTH = 30


class Progress:
    """Follows the `events.jsonl` of a run from where it ends now on."""

    def __init__(self, folder: Path, out: TextIO) -> None:
        self.finished: dict[str, Any] | None = None
        """The run's last line, once it is there."""
        self._file, self._out = folder / "events.jsonl", out
        self._position = self._file.stat().st_size if self._file.exists() else 0
        self._total, self._first, self._step, self._since = 0, 0, 0, time.monotonic()
        self._values: dict[str, float] = {}
        self._has_bar = False

    def look(self) -> None:
        """Show what is new."""
        if not self._file.exists():
            return
        with self._file.open("rb") as file:
            file.seek(self._position)
            while (line := file.readline()).endswith(b"\n"):
                self._position += len(line)
                self._take(json.loads(line))

    def say(self, text: str) -> None:
        """A line of its own, above the bar."""
        self._out.write(("\r\x1b[K" if self._has_bar else "") + text + "\n")
        self._out.flush()
        self._has_bar = False

    def _take(self, event: dict[str, Any]) -> None:
        match event["kind"]:
            case "started":
                self._total, self._first, self._since = event["total_steps"], event["first_step"], time.monotonic()
                share = 100 * event["trainable"] / max(1, event["parameters"])
                self.say(
                    f"{event['rows']} rows ({event['truncated']} cut), {event['tokens']} tokens a pass, on"
                    f" {event['processes']} × {event['device']}; {event['trainable']} weights learn ({share:.2g} %)"
                )
                if self._first:
                    self.say(f"goes on after step {self._first}")
            case "metrics":
                self._step = event["step"]
                self._values.update(event["values"])
                self._draw()
            case "sample":
                self.say(f"  {event['prompt']!r} → {event['text']!r}")
            case "warned":
                self.say(f"note: {event['message']}")
            case "finished":
                self.finished = event

    def _draw(self) -> None:
        line = self._line()
        if self._out.isatty():
            self._out.write(f"\r\x1b[K{line}")
            self._has_bar = True
        else:
            self._out.write(line + "\n")
        self._out.flush()

    def _line(self) -> str:
        done = int(WIDTH * self._step / max(1, self._total))
        figures = [f"loss {self._values['loss']:.4f}"] if "loss" in self._values else []
        if "eval_loss" in self._values:
            figures.append(f"held-out {self._values['eval_loss']:.4f}")
        if "tokens_per_second" in self._values:
            figures.append(f"{self._values['tokens_per_second']:.0f} tokens/s")
        if self._step > self._first:
            seconds = (time.monotonic() - self._since) / (self._step - self._first) * (self._total - self._step)
            figures.append(f"{int(seconds) // 60}:{int(seconds) % 60:02} left")
        return f"[{'█' * done}{'·' * (WIDTH - done)}] {self._step}/{self._total}  {'  '.join(figures)}"
