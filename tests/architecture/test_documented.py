"""What pages say can be done as they say it: configurations load, commands exist, requests are understood, links lead
somewhere. Nothing is started.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import runpy
import sys
import tomllib
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import parse_qsl, urlsplit

import jsonschema
import pytest
from starlette.routing import compile_path

from control import cli, settings as control_settings
from control.comparisons import command as compare
from gateway import commands as gateway
from gateway.api import routes
from gateway.context import Operation
from gateway.contract.providers import KINDS
from gateway.contract.snapshot import Snapshot
from tests.architecture.pages import (
    CONTROL,
    ROOT,
    Block,
    anchors,
    blocks,
    blocks_of,
    commands,
    inline,
    links,
    pages,
    prose,
)
from trainer import settings as trainer_settings, train

PROVIDERS = ROOT / "docs/providers"
CHINESE = ROOT / "docs/zh"
TARGETS = set(re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8")))
SCRIPTS = json.loads((ROOT / "console/package.json").read_text(encoding="utf-8"))["scripts"]
OPENAPI = json.loads((ROOT / "docs/openapi.json").read_text(encoding="utf-8"))


# --- configurations


@pytest.mark.parametrize("block", [block for block in blocks("toml") if not block.fragment], ids=str)
def test_every_configuration_is_accepted_by_the_code_that_reads_it(
    block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("a-secret-of-the-example-0123456789", encoding="utf-8")
    for name in re.findall(r'"env:(\w+)"', block.text):
        monkeypatch.setenv(name, f"a-secret-of-the-example-{name}")
    file = tmp_path / "file.toml"
    file.write_text(re.sub(r'"file:[^"]+"', f'"file:{secret}"', block.text), encoding="utf-8")
    tables = tomllib.loads(block.text)
    if "recipe" in tables:
        train.read_spec(file)
    elif "candidates" in tables:
        (tmp_path / tables["cases_file"]).write_text("question,expected\nWhat is 6 × 7?,42\n", encoding="utf-8")
        compare.read(file)
    else:
        assert gateway.main(["config", "check", str(file)]) == 0
        control_settings.load(file)
        trainer_settings.load(file)


@pytest.mark.parametrize("block", [block for block in blocks("toml") if block.fragment], ids=str)
def test_a_fragment_of_a_configuration_lacks_nothing_but_targets(block: Block) -> None:
    tables = tomllib.loads(block.text)
    for route in tables["route"]:
        route.setdefault("target", [{"endpoint": "up", "model": "m"}])
    Snapshot.model_validate(tables)


def test_the_index_of_providers_has_every_kind_in_both_languages() -> None:
    for page in (PROVIDERS / "README.md", CHINESE / "providers.md"):
        assert set(re.findall(r"(?m)^\| `(\w+)` \| [^|]+ \| [^|]*(?:https?:|none|无)", prose(page))) == KINDS.keys()


@pytest.mark.parametrize("page", sorted(set(PROVIDERS.glob("*.md")) - {PROVIDERS / "README.md"}), ids=lambda p: p.stem)
def test_a_page_of_a_provider_has_its_usual_address_all_its_options_and_fits_a_screen(page: Path) -> None:
    (block,) = (block for block in blocks_of(page) if block.language == "toml")
    (endpoint,) = tomllib.loads(block.text)["endpoint"]
    kind, text = KINDS[endpoint["provider"]], page.read_text(encoding="utf-8")
    assert endpoint["base_url"] == kind.base_url or not kind.base_url
    assert not [name for name in kind.options.model_fields if f"| `{name}` |" not in text]
    assert kind.options.model_fields or "here are no options" in " ".join(text.split())
    assert text.count("\n") <= 60


# --- commands


class Parsed(Exception):
    """The arguments are right; whoever would act on them is stopped here."""


class Replaced(Exception):
    """`tunegate` hands over to a module."""


@pytest.fixture
def parse_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command line is parsed by the parser of its command, and nothing happens after that."""
    real = argparse.ArgumentParser.parse_args

    def parse(self: argparse.ArgumentParser, args: Any = None, namespace: Any = None) -> NoReturn:
        real(self, args, namespace)
        raise Parsed

    def replace(_: str, arguments: list[str]) -> NoReturn:
        raise Replaced(arguments)

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse)
    monkeypatch.setattr(os, "execv", replace)


@pytest.mark.usefixtures("parse_only")
@pytest.mark.parametrize(("where", "words"), commands("tunegate"))
def test_every_command_of_ours_exists_with_its_options(
    where: str, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        assert cli.main(words[1:]) == 0, where
    except Parsed:
        return
    except Replaced as replaced:
        _, _, _, module, *arguments = replaced.args[0]
        monkeypatch.setattr(sys, "argv", [module, *arguments])
        with warnings.catch_warnings(action="ignore"), pytest.raises(Parsed):  # it was imported before: runpy warns
            runpy.run_module(module, run_name="__main__")


READING = [
    (where, words)
    for where, words in commands("tunegate")
    if words[1] in ("route", "usage") or words[1:3] == ["config", "check"]
]


@pytest.mark.parametrize(("where", "words"), READING)
def test_a_command_that_only_reads_works_with_the_configuration_of_its_page(
    where: str, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page, line = ROOT / where.partition(":")[0], int(where.partition(":")[2])
    above = [block.text for block in blocks_of(page) if block.language == "toml" and block.line < line]
    text = above[-1] if above else ""  # an empty file is a configuration, too
    for name in re.findall(r'"env:(\w+)"', text):
        monkeypatch.setenv(name, f"a-secret-of-the-example-{name}")
    (tmp_path / "config.toml").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert gateway.main(words[1:]) == 0
    assert "\nanswer " not in capsys.readouterr().out, "it would be refused"


@pytest.mark.usefixtures("parse_only")
def test_every_command_of_ours_that_a_sentence_names_exists() -> None:
    unknown = []
    for where, words in inline("tunegate"):
        try:
            if words[1] != "COMMAND" and cli.main(words[1:]) != 0:
                unknown.append((where, words))
        except (Parsed, Replaced):
            continue
    assert not unknown


def test_every_target_of_make_exists() -> None:
    named = [(where, words[1]) for where, words in [*commands("make"), *inline("make")]]
    assert len(named) > 20
    assert not [(where, target) for where, target in named if target not in TARGETS]


def test_every_module_and_script_that_is_run_exists() -> None:
    modules = [(where, words[2]) for where, words in commands("python") if words[1] == "-m"]
    assert not [(where, module) for where, module in modules if find_spec(module) is None]
    scripts = [(where, words[1 + (words[1] == "run")]) for where, words in commands("npm")]
    assert not [(where, script) for where, script in scripts if script not in SCRIPTS]


# --- requests


def _curl(words: list[str]) -> tuple[str, str, str | None]:
    """(method, URL, body in JSON)."""
    parser = argparse.ArgumentParser(prog="curl")
    parser.add_argument("url")
    parser.add_argument("-s", "-f", "-N", action="store_true")
    parser.add_argument("-X")
    parser.add_argument("-H", action="append")
    parser.add_argument("-d", "--json")
    parser.add_argument("--data-binary")
    asked, _ = parser.parse_known_args([word for word in words[1:] if not word.startswith("<<")])
    sends = asked.json is not None or asked.data_binary is not None
    return asked.X or ("POST" if sends else "GET"), asked.url, asked.json


def _operation(method: str, target: str) -> Operation | None:
    return (routes.OPERATIONS.get(target.encode()) if method == "POST" else None) or routes.match(
        method.encode(), target.encode()
    )


@pytest.mark.parametrize(("where", "words"), commands("curl"))
def test_every_request_is_one_that_is_understood(where: str, words: list[str]) -> None:
    method, address, body = _curl(words)
    url = urlsplit(address)
    target = address.removeprefix(f"{url.scheme}://{url.netloc}")
    if url.port == urlsplit(CONTROL).port:
        _of_control(method, url.path, [name for name, _ in parse_qsl(url.query)], body)
        return
    assert url.port == 8000, f"{where}: neither the gateway nor control is at {address}"
    operation = _operation(method, target)
    if operation is None:
        table = routes.Api.__new__(routes.Api).table()
        assert any(one == method and compile_path(path)[0].fullmatch(url.path) for one, path, _, _ in table), where
    elif body is not None:
        operation.parse(body.encode())


def _of_control(method: str, path: str, query: list[str], body: str | None) -> None:
    (said,) = (
        item[method.lower()]
        for template, item in OPENAPI["paths"].items()
        if compile_path(template)[0].fullmatch(path) and method.lower() in item
    )
    known = [parameter["name"] for parameter in said.get("parameters", []) if parameter["in"] == "query"]
    assert set(query) <= set(known)
    if body is not None:
        schema = said["requestBody"]["content"]["application/json"]["schema"]
        told = json.loads(body.replace("…", "-"))  # stands for a secret
        jsonschema.validate(told, {**schema, "components": OPENAPI["components"]})


# --- links


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_file_and_a_heading_that_are_there(page: Path) -> None:
    broken = []
    for link in links(page):
        name, _, anchor = link.partition("#")
        file = page.parent / name if name else page
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file)):
            broken.append(link)
    assert not broken


def _reached(page: Path, seen: set[Path]) -> set[Path]:
    seen.add(page)
    for link in links(page):
        other = (page.parent / link.partition("#")[0]).resolve()
        if other.suffix == ".md" and other.exists() and other not in seen:
            _reached(other, seen)
    return seen


def test_every_page_is_reached_from_the_readme() -> None:
    alone = set(ROOT.glob("docs/**/*.md")) - _reached(ROOT / "README.md", set())
    assert not alone, f"no page links to {', '.join(map(str, alone))}"
