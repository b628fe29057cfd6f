"""The key-encryption key wrapped by HashiCorp Vault's transit engine: unwrapped at start, or the start is refused."""

from __future__ import annotations

import asyncio
import base64
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from control import kms
from control.errors import ConfigError
from control.security import Vault, new_kek, open_vault, parse_kek
from control.settings import ConsoleTable, SecretsTable, Settings, load
from tests.fakes.vault import TOKEN, TransitVault


@pytest.fixture
def transit() -> Iterator[TransitVault]:
    one = TransitVault()
    yield one
    one.close()


@pytest.fixture
def settings(transit: TransitVault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Of a control plane that everybody reaches, with its key wrapped by `transit`."""
    monkeypatch.setenv("VAULT_TOKEN_OF_TEST", TOKEN)
    (tmp_path / "key.wrapped").write_text(transit.wrapped_key() + "\n")
    return Settings(
        console=ConsoleTable(listen="0.0.0.0:8080", data_dir=tmp_path),
        secrets=SecretsTable(
            key=f"file:{tmp_path / 'key.wrapped'}", unwrap_url=transit.url, unwrap_token="env:VAULT_TOKEN_OF_TEST",
            unwrap_namespace="team-llm",
        ),
    )  # fmt: skip


def changed(settings: Settings, **secrets: Any) -> Settings:
    return settings.model_copy(update={"secrets": settings.secrets.model_copy(update=secrets)})


def test_the_key_is_unwrapped_once_and_then_needs_nobody(settings: Settings, transit: TransitVault) -> None:
    vault = open_vault(settings)
    assert len(transit.asked) == 1
    assert transit.asked[0]["x-vault-namespace"] == "team-llm"
    transit.manner = "sealed"
    sealed = vault.seal("sk-secret", "row")
    assert vault.open(sealed, "row") == "sk-secret"
    assert len(transit.asked) == 1, "a key in memory needs no Vault"
    transit.manner = None
    assert open_vault(settings).open(sealed, "row") == "sk-secret", "the next start has the same key"


def test_it_is_unwrapped_on_an_event_loop_too(settings: Settings) -> None:
    async def main() -> str:
        return open_vault(settings).kek_id

    assert asyncio.run(main()) == open_vault(settings).kek_id


@pytest.mark.parametrize(
    ("manner", "says"),
    [
        ("sealed", "sealed"),
        ("garbage", "not transit's"),
        ("huge", "larger than"),
        ("redirect", "answers 307"),
        ("slow", r"within 0\.3 s"),
        ({"data": {}}, "not transit's"),
        ({"data": {"plaintext": "é"}}, "not transit's"),
        ({"data": {"plaintext": 7}}, "not transit's"),
        ({"data": {"plaintext": base64.b64encode(b"short").decode()}}, "32 bytes"),
        (["x"], "not transit's"),
    ],
)
def test_without_the_key_there_is_no_start(
    settings: Settings, transit: TransitVault, monkeypatch: pytest.MonkeyPatch, manner: Any, says: str
) -> None:
    monkeypatch.setattr(kms, "SECONDS", 0.3 if manner == "slow" else 10.0)
    transit.manner = manner
    with pytest.raises(ConfigError, match=says) as caught:
        open_vault(settings)
    assert TOKEN not in str(caught.value)


def test_what_is_wrong_with_token_path_or_ciphertext_is_said(
    settings: Settings, transit: TransitVault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = TransitVault()
    (tmp_path / "other").write_text(stranger.wrapped_key())
    stranger.close()
    with pytest.raises(ConfigError, match="does not know this wrapped key"):
        open_vault(changed(settings, key=f"file:{tmp_path / 'other'}"))
    with pytest.raises(ConfigError, match="no transit key at this path"):
        open_vault(changed(settings, unwrap_url=transit.url + "2"))
    with pytest.raises(ConfigError, match="no connection"):
        open_vault(changed(settings, unwrap_url="http://127.0.0.1:9/v1/transit/decrypt/tunegate"))
    with pytest.raises(ConfigError, match="metadata"):
        open_vault(changed(settings, unwrap_url="http://169.254.169.254/v1/transit/decrypt/tunegate"))
    with pytest.raises(ConfigError, match="no usable PEM bundle"):
        open_vault(changed(settings, unwrap_ca_file=tmp_path / "other"))
    with pytest.raises(ConfigError, match="needs key"):
        open_vault(changed(settings, key=""))
    with pytest.raises(ConfigError, match="set \\[secrets\\] unwrap_url"):
        open_vault(changed(settings, unwrap_url=""))
    monkeypatch.setenv("VAULT_TOKEN_OF_TEST", "hvs.expired")
    with pytest.raises(ConfigError, match="refuses the token"):
        open_vault(settings)


def test_moving_from_a_key_in_a_file_to_vault(settings: Settings, tmp_path: Path) -> None:
    plain = new_kek()
    (tmp_path / "plain").write_text(plain)
    with pytest.raises(ConfigError, match="is not wrapped"):
        open_vault(changed(settings, key=f"file:{tmp_path / 'plain'}"))
    sealed = Vault(parse_kek(plain)).seal("sk-secret", "row")
    vault = open_vault(changed(settings, previous_key=f"file:{tmp_path / 'plain'}"))
    assert vault.open(sealed, "row") == "sk-secret"
    assert open_vault(settings).open(vault.rewrap(sealed, "row"), "row") == "sk-secret"


@pytest.mark.parametrize(
    "more", ['unwrap_url = "http://vault.example.com/v1/x"\nunwrap_token = "env:A"', 'unwrap_url = "https://v/v1/x"']
)
def test_settings_that_would_show_the_token_are_refused(tmp_path: Path, more: str) -> None:
    (tmp_path / "config.toml").write_text(f"[secrets]\n{more}\n")
    with pytest.raises(ConfigError, match=r"secrets.*unwrap_"):
        load(tmp_path / "config.toml")


def test_the_command_refuses_to_start_and_says_why(settings: Settings, transit: TransitVault, tmp_path: Path) -> None:
    transit.manner = "sealed"
    (tmp_path / "config.toml").write_text(
        f'[console]\nlisten = "127.0.0.1:0"\ndata_dir = "{tmp_path}"\n[secrets]\nkey = "{settings.secrets.key}"\n'
        f'unwrap_url = "{transit.url}"\nunwrap_token = "env:VAULT_TOKEN_OF_TEST"\n'
    )
    argv = [sys.executable, "-m", "control.commands", "serve", "--config", str(tmp_path / "config.toml")]
    done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "the key cannot be unwrapped" in done.stderr
    assert "sealed" in done.stderr
    transit.manner = None
    done = subprocess.run([*argv[:3], "check", *argv[4:]], check=False, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
