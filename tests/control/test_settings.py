"""Settings of control: documented, shown in the example, refused with a reason where they are wrong or unsafe."""

from __future__ import annotations

from pathlib import Path

import pytest

from control.app import build
from control.errors import ConfigError
from control.security import Sealed, Vault, new_kek, open_vault, parse_kek
from control.settings import ConsoleTable, OidcTable, SecretsTable, Settings, load
from control.settings_page import settings_page

ROOT = Path(__file__).parents[2]


def test_the_page_is_what_the_code_says_or_make_fix_was_forgotten() -> None:
    assert (ROOT / "docs/settings-control.md").read_text(encoding="utf-8") == settings_page()


def test_every_setting_has_a_meaning_and_stands_in_the_example_with_its_default() -> None:
    example = (ROOT / "config.example.toml").read_text(encoding="utf-8")
    for name, table in Settings():
        assert f"[{name}]" in example
        for key, field in type(table).model_fields.items():
            assert field.description, f"{name}.{key}"
            assert f"\n{key} = " in example or f"\n# {key} = " in example, f"{name}.{key}"
    assert load(ROOT / "config.example.toml") == Settings()


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "config.toml"
    file.write_text('[console]\nlisten = "127.0.0.1:1"\n[gateway]\nlisten = "127.0.0.1:2"\n')
    monkeypatch.setenv("TUNEGATE_CONSOLE_LISTEN", "127.0.0.1:3")
    monkeypatch.setenv("TUNEGATE_DATABASE_POOL_SIZE", "7")
    settings = load(file)
    assert (settings.console.port, settings.database.pool_size) == (3, 7)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[console]\nlisten = 8080", "console.listen"),
        ("[console]\ncolor = 1", "console.color"),
        ("[database]\npool_size = 0", "database.pool_size"),
        ('[console]\npublic_url = "console.example.com"', "console.public_url"),
        ('[console]\npublic_url = "https://console.example.com/path"', "console.public_url"),
        ('[console]\ntrusted_proxies = ["10.0.0.1/8"]', "console.trusted_proxies"),
        ('[oidc]\nissuer = "https://idp.example.com"', "client_id is missing"),
        ('[oidc]\nissuer = "https://idp.example.com"\nclient_id = "c"', "needs .console. public_url"),
        ('[oidc]\nissuer = "http://idp.example.com"\nclient_id = "c"', "not an https:// URL"),
        ('[oidc]\nissuer = "https://u:p@idp.example.com"\nclient_id = "c"', "not an https:// URL"),
        ('[oidc]\nissuer = "https://i"\nclient_id = "c"\nclient_secret = "abc"', "client_secret must be env:NAME"),
        ('[oidc]\nissuer = "https://i"\nclient_id = "c"\nscopes = "email"', "must contain openid"),
        ('[oidc]\ngroup_roles = { a = "root" }', "oidc.group_roles"),
        ('[oidc]\ndefault_role = "root"', "oidc.default_role"),
        ("[oidc]\npassword_sign_in = false", "leaves no way to sign in"),
        ("[console", "config.toml"),
        ("\udcff", "config.toml"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "config.toml"
    file.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ConfigError, match=says):
        load(file)


def test_lists_and_tables_come_from_the_environment_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEGATE_CONSOLE_TRUSTED_PROXIES", "10.0.0.0/8, fd00::/8")
    monkeypatch.setenv("TUNEGATE_OIDC_EMAIL_DOMAINS", "example.com")
    monkeypatch.setenv("TUNEGATE_OIDC_GROUP_ROLES", '{"ops": "operator", "all": "viewer"}')
    settings = load(None)
    assert [str(network) for network in settings.console.trusted_proxies] == ["10.0.0.0/8", "fd00::/8"]
    assert settings.oidc.email_domains == ("example.com",)
    assert list(settings.oidc.group_roles.items()) == [("ops", "operator"), ("all", "viewer")]
    monkeypatch.setenv("TUNEGATE_OIDC_GROUP_ROLES", "ops=operator")
    with pytest.raises(ConfigError, match=r"oidc\.group_roles"):
        load(None)


def test_what_single_sign_on_needs_is_looked_at_before_the_start(tmp_path: Path) -> None:
    oidc = {"issuer": "https://idp.example.com", "client_id": "c"}
    console = ConsoleTable(data_dir=tmp_path, public_url="https://console.example.com")
    with pytest.raises(ConfigError, match="NO_SUCH_VARIABLE"):
        build(Settings(console=console, oidc=OidcTable(**oidc, client_secret="env:NO_SUCH_VARIABLE")))
    (tmp_path / "ca.pem").write_text("no certificate")
    for name in ("ca.pem", "missing.pem"):
        with pytest.raises(ConfigError, match="no usable PEM bundle"):
            build(Settings(console=console, oidc=OidcTable(**oidc, ca_file=tmp_path / name)))


def test_others_may_reach_it_only_with_a_key_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    console = ConsoleTable(listen="0.0.0.0:8080", data_dir=tmp_path)
    with pytest.raises(ConfigError, match=r"\[secrets\] key"):
        build(Settings(console=console))
    with pytest.raises(ConfigError, match="no secret"):
        build(Settings(console=console, secrets=SecretsTable(key=new_kek())))
    monkeypatch.setenv("KEK", "c2hvcnQ=")
    with pytest.raises(ConfigError, match="32 bytes"):
        build(Settings(console=console, secrets=SecretsTable(key="env:KEK")))
    monkeypatch.setenv("KEK", new_kek())
    assert build(Settings(console=console, secrets=SecretsTable(key="env:KEK")))


def test_a_key_is_made_once_for_a_loopback_listener(tmp_path: Path) -> None:
    settings = Settings(console=ConsoleTable(data_dir=tmp_path))
    assert open_vault(settings).kek_id == open_vault(settings).kek_id
    assert (tmp_path / "secret.key").stat().st_mode & 0o777 == 0o600


def test_a_sealed_secret_opens_for_its_row_and_key_only() -> None:
    vault, other = Vault(parse_kek(new_kek())), Vault(parse_kek(new_kek()))
    sealed = vault.seal("sk-秘密", "row-1")
    assert "sk-" not in sealed.sealed
    assert vault.open(sealed, "row-1") == "sk-秘密"
    with pytest.raises(ValueError, match="another row"):
        vault.open(sealed, "row-2")
    with pytest.raises(ValueError, match="key-encryption key"):
        other.open(sealed, "row-1")
    forged = Sealed(sealed.sealed[:-4] + "AAAA", sealed.wrapped_key, sealed.kek_id)
    with pytest.raises(ValueError, match="changed"):
        vault.open(forged, "row-1")


def test_a_vault_opens_what_its_previous_key_sealed_and_wraps_it_anew() -> None:
    old, new = parse_kek(new_kek()), parse_kek(new_kek())
    sealed = Vault(old).seal("sk-秘密", "row-1")
    both = Vault(new, old)
    assert both.open(sealed, "row-1") == "sk-秘密"
    moved = both.rewrap(sealed, "row-1")
    assert (moved.sealed, Vault(new).open(moved, "row-1")) == (sealed.sealed, "sk-秘密")
    with pytest.raises(ValueError, match="another row"):
        both.rewrap(sealed, "row-2")
    assert Vault(new).kek_id == both.kek_id == both.seal("x", "row-1").kek_id
