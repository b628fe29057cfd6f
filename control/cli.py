"""The `tunegate` command: runs each plane as its own process. Standard library only, so it starts at once."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path

HELP = """\
Tunegate: one OpenAI-compatible endpoint in front of every model.

  tunegate up                      run everything on this machine; Ctrl-C stops it
  tunegate gateway --config FILE   serve /v1 (the data plane alone)
  tunegate control --config FILE   run the control API and the console
  tunegate migrate                 bring control's database up to date
  tunegate admin create NAME       make an administrator; prints the password
  tunegate token new NAME          make a service token for a gateway
  tunegate secrets new|rotate      make, or replace, the key that seals credentials
  tunegate backup FILE             all of control's database as of one moment (--files: datasets and documents, too)
  tunegate restore FILE            a backup into an empty database
  tunegate import litellm FILE     take over LiteLLM's config.yaml (--dry-run: only say what would be made)
  tunegate import one-api FILE     take over one-api's SQLite database: channels and tokens
  tunegate trainer --config FILE   run training jobs and the local model engines of the file
  tunegate train SPEC.toml         run one training job here, without control
  tunegate compare SUITE.toml      ask several routes the cases of a suite, without control
  tunegate usage                   what was used and what it cost
  tunegate route explain MODEL     where a request for this model goes, and why
  tunegate config check FILE       every mistake in a configuration file
  tunegate version
  tunegate help

`tunegate COMMAND --help` lists the options of a command.
"""

_COMMANDS: dict[tuple[str, ...], tuple[str, ...]] = {
    ("control",): ("control.commands", "serve"),
    ("migrate",): ("control.commands", "migrate"),
    ("admin", "create"): ("control.commands", "admin-create"),
    ("token", "new"): ("control.commands", "token-new"),
    ("secrets", "new"): ("control.commands", "secrets-new"),
    ("secrets", "rotate"): ("control.commands", "secrets-rotate"),
    ("import",): ("control.commands", "import"),
    ("backup",): ("control.commands", "backup"),
    ("restore",): ("control.commands", "restore"),
    ("gateway",): ("gateway", "serve"),
    ("trainer",): ("trainer",),
    ("train",): ("trainer.train",),
    ("compare",): ("control.comparisons.command",),
    ("usage",): ("gateway", "usage"),
    ("route", "explain"): ("gateway", "route", "explain"),
    ("config", "check"): ("gateway", "config", "check"),
}
"""What follows `tunegate`, and the module with arguments that does it."""

_UPS_CONFIG = Path("var/config.toml")


def main(argv: Sequence[str] | None = None) -> int:
    """Find the command and run it; commands of another plane replace this process."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    match arguments[:1]:
        case [] | ["help" | "--help" | "-h"]:
            print(HELP, end="")
            return 0
        case ["version" | "--version"]:
            print(f"tunegate {importlib.metadata.version('tunegate')}")
            return 0
        case ["up"]:
            from control.up import main as up  # noqa: PLC0415 - other commands need not load it

            return up(arguments[1:])
    for words, (module, *rest) in _COMMANDS.items():
        if tuple(arguments[: len(words)]) == words:
            return _replace_process(module, [*rest, *arguments[len(words) :], *_default_config(words, arguments)])
    print(f"tunegate: there is no command `{' '.join(arguments[:2])}`\n\n{HELP}", end="", file=sys.stderr)
    return 2


def _default_config(words: tuple[str, ...], arguments: list[str]) -> list[str]:
    """`--config` with the file of `tunegate up`, where nothing else says which file is meant."""
    said = any(argument.partition("=")[0] in ("--config", "--help", "-h") for argument in arguments)
    if (
        said
        or words in (("config", "check"), ("train",), ("compare",))
        or not _UPS_CONFIG.exists()
        or Path("config.toml").exists()
    ):
        return []
    return ["--config", str(_UPS_CONFIG)]


def _replace_process(module: str, arguments: list[str]) -> int:
    plane = module.partition(".")[0]
    if importlib.util.find_spec("fastapi" if plane == "control" else "pydantic") is None:
        print(f"tunegate: this needs more packages: pip install 'tunegate[{plane}]'", file=sys.stderr)
        return 2
    sys.stdout.flush()
    # -P: a folder named like the module in the working directory is not ours
    os.execv(sys.executable, [sys.executable, "-P", "-m", module, *arguments])
