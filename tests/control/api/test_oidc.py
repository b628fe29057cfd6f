"""Single sign-on against a real provider on loopback, followed as a browser would follow it."""

from __future__ import annotations

import asyncio
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2 as httpx
import pytest

from control.app import build
from control.auth import sso
from control.deps import Control
from control.kit.oidc import Flow, Identity
from control.migrations.run import migrate
from control.models import User
from control.settings import ConsoleTable, DatabaseTable, OidcTable, Settings
from tests.control.api.browser import PUBLIC, START, Browser, audited, failed
from tests.control.api.conftest import PASSWORD, Running, Start
from tests.fakes.oidc import IdentityProvider, SigningKey


@pytest.fixture
def control(start_control: Start, idp: IdentityProvider) -> Running:
    return start_control(oidc=idp.settings(), public_url=PUBLIC)


@pytest.fixture
def browser(control: Running) -> Browser:
    return Browser(control)


# ---- it works ----


@pytest.mark.parametrize("methods", [["client_secret_basic"], ["client_secret_post"], None, ["none"]])
@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
def test_a_new_person_comes_in_with_an_account_of_their_own(
    start_control: Start, idp: IdentityProvider, methods: list[str] | None, algorithm: str
) -> None:
    idp.methods, idp.key = methods, SigningKey(algorithm)
    idp.jwks = [idp.key.public()]
    more = {}
    if methods == ["none"]:
        idp.secret, more = "", {"client_secret": ""}
    control = start_control(oidc=idp.settings(**more), public_url=PUBLIC)
    browser = Browser(control)
    assert browser.sign_in(f"{START}?return_to=/usage?by=key") == "/usage?by=key"
    assert browser.me()["username"] == "alice"
    assert browser.me()["role"] == "member", "and the refresh token rotates as after a login"
    assert not any(word in " ".join(browser.seen) for word in ("access_token", "id_token", "rt-tg-"))
    shown = control.admin.get("/api/v1/users/alice").json()
    assert (shown["sso_subject"], shown["email"], shown["must_change_password"]) == ("u-1", "alice@example.com", False)
    assert control.sql("SELECT password_hash FROM user_account WHERE username = 'alice'") == [(None,)]
    assert "single sign-on alice" in audited(control, "create")[-1]
    assert audited(control, "login") == [f'alice alice {{"issuer":"{idp.issuer}"}}']

    again = Browser(control)
    assert again.sign_in() == "/"
    assert again.me()["username"] == "alice"
    assert control.sql("SELECT count(*) FROM user_account WHERE sso_subject IS NOT NULL") == [(1,)]


def test_the_cookies_are_for_this_browser_and_this_purpose_only(start_control: Start, idp: IdentityProvider) -> None:
    control = start_control(oidc=idp.settings(), public_url="https://console.example.com")
    with httpx.Client(base_url=control.url, trust_env=False) as client:
        answer = client.get(START)
    cookie = answer.headers["set-cookie"]
    assert all(
        word in cookie for word in ("HttpOnly", "SameSite=lax", "Secure", "Path=/api/v1/auth/oidc", "Max-Age=600")
    )
    assert answer.headers["cache-control"] == "no-store"
    query = parse_qs(urlsplit(answer.headers["location"]).query)
    assert query["redirect_uri"] == ["https://console.example.com/api/v1/auth/oidc/callback"]
    assert query["code_challenge_method"] == ["S256"]
    login = control.anonymous().post("/api/v1/auth/login", json={"username": "member", "password": PASSWORD})
    assert "Secure" in login.headers["set-cookie"], "behind a proxy that ends TLS, too"


def test_the_login_page_learns_which_ways_there_are(control: Running, start_control: Start) -> None:
    methods = control.anonymous().get("/api/v1/auth/methods").json()
    assert methods == {"password": True, "oidc": {"name": "Single sign-on", "start": START}}
    without = start_control().anonymous()
    assert without.get("/api/v1/auth/methods").json() == {"password": True, "oidc": None}
    assert without.get(START).json()["code"] == "sso_off"
    assert without.get("/api/v1/auth/oidc/callback?code=x&state=y").status_code == 404


@pytest.mark.parametrize(
    "bad",
    ["//evil.example", "/\\evil.example", "https://evil.example", "evil", "", "/\t/evil.example", "/é", "/a\nb", "/ "],
)
def test_the_browser_comes_back_to_a_path_of_this_console_only(control: Running, bad: str) -> None:
    with httpx.Client(base_url=control.url, trust_env=False) as client:
        assert client.get(START, params={"return_to": bad}).status_code == 422


# ---- who it is ----


def test_a_name_or_address_never_links_an_account_but_an_admin_does(
    control: Running, idp: IdentityProvider, browser: Browser
) -> None:
    idp.person = {"sub": "someone", "preferred_username": "admin@example.com", "email": "admin@example.com"}
    admin = control.admin
    version = admin.get("/api/v1/users/viewer").json()["row_version"]
    admin.patch("/api/v1/users/viewer", json={"row_version": version, "email": "admin@example.com"})
    browser.sign_in()
    assert "'someone' would be called 'admin'" in failed(control, browser, "sso_name_taken")

    link = "/api/v1/users/operator/sso"
    operator = Browser(control)
    login = {"username": "operator", "password": PASSWORD}
    operator.client.post(f"{control.url}/api/v1/auth/login", json=login)
    body = {"row_version": admin.get("/api/v1/users/operator").json()["row_version"], "subject": "someone"}
    assert admin.put("/api/v1/users/admin/sso", json=body).json()["code"] == "break_glass"
    assert admin.put("/api/v1/users/nobody/sso", json=body).status_code == 404
    assert admin.put(link, json=body | {"row_version": 99}).json()["code"] == "stale_version"
    assert admin.put(link, json=body).json()["sso_subject"] == "someone"
    assert operator.me() == "not_signed_in", "logins by password have ended"
    assert control.anonymous().post("/api/v1/auth/login", json=login).status_code == 401
    assert admin.post("/api/v1/users/operator/reset-password").json()["code"] == "sso_account"
    assert admin.put("/api/v1/users/viewer/sso", json=body | {"row_version": 2}).json()["code"] == "sso_taken"

    assert browser.sign_in() == "/"
    me = browser.me()
    assert (me["username"], me["role"]) == ("operator", "operator"), "no groups are mapped: the role is the console's"
    assert admin.delete(link).status_code == 204
    assert browser.me() == "not_signed_in"
    assert admin.delete(link).status_code == 404
    assert admin.post("/api/v1/users/operator/reset-password").status_code == 200
    assert len(audited(control, "link_sso")) == len(audited(control, "unlink_sso")) == 1


def test_a_disabled_person_stays_out(control: Running, browser: Browser) -> None:
    browser.sign_in()
    version = control.admin.get("/api/v1/users/alice").json()["row_version"]
    control.admin.patch("/api/v1/users/alice", json={"row_version": version, "enabled": False})
    assert browser.me() == "not_signed_in"
    browser.sign_in()
    failed(control, browser, "sso_disabled")


def test_groups_decide_role_and_teams_at_every_sign_in(start_control: Start, idp: IdentityProvider) -> None:
    table = {"default_role": None, "group_roles": {"ops": "operator", "all": "viewer"}, "group_teams": {"r": "risk"}}
    control = start_control(oidc=idp.settings(**table), public_url=PUBLIC)
    for team in ("risk", "other"):
        control.admin.post("/api/v1/teams", json={"name": team})

    def sign_in(groups: Any) -> Any:
        idp.person = {"sub": "u-1", "preferred_username": "alice", "groups": groups}
        browser = Browser(control)
        browser.sign_in()
        me = browser.me()
        return (me["role"], me["teams"]) if isinstance(me, dict) else browser.seen[-1]

    assert sign_in(["nobody"]) == "/login?sso_error=sso_no_role"
    assert control.admin.get("/api/v1/users/alice").status_code == 404
    assert sign_in(["all", "ops", "r"]) == ("operator", ["risk"]), "the first line of the table wins"
    control.admin.put("/api/v1/teams/other/members", json={"username": "alice", "manager": False})
    first = Browser(control)
    first.sign_in()
    assert sign_in("all") == ("viewer", ["other"]), "one group may come as text; a team that is not mapped stays"
    assert first.me() == "not_signed_in", "another role ends every login"
    for odd in ([], None, 7, [1, None, {"a": 1}], {"ops": True}):
        assert sign_in(odd) == "/login?sso_error=sso_no_role"
    assert control.sql("SELECT role FROM user_account WHERE username = 'alice'") == [("viewer",)]


def test_the_last_admin_stays_one_whatever_the_groups_say(start_control: Start, idp: IdentityProvider) -> None:
    control = start_control(oidc=idp.settings(group_roles={"root": "admin"}), public_url=PUBLIC)
    idp.person |= {"groups": ["root"]}
    browser = Browser(control)
    browser.sign_in()
    assert browser.me()["role"] == "admin"
    control.sql("UPDATE user_account SET enabled = 0 WHERE username = 'admin'")
    idp.person |= {"groups": []}
    browser.sign_in()
    assert browser.me()["role"] == "admin"
    control.sql("UPDATE user_account SET enabled = 1 WHERE username = 'admin'")
    browser.sign_in()
    assert browser.me()["role"] == "member"


@pytest.mark.parametrize(
    ("claims", "good"),
    [
        ({"email": "a@EXAMPLE.com"}, True),
        ({"email": "a@evil.com"}, False),
        ({"email": "a@example.com.evil.com"}, False),
        ({"email": "a@example.com", "email_verified": False}, False),
        ({"email": None}, False),
        ({"email": ["a@example.com"]}, False),
    ],
)
def test_only_addresses_of_the_companys_domains(
    start_control: Start, idp: IdentityProvider, claims: dict[str, Any], good: bool
) -> None:
    control = start_control(oidc=idp.settings(email_domains=["example.com"]), public_url=PUBLIC)
    idp.person |= claims
    assert Browser(control).sign_in() == ("/" if good else "/login?sso_error=sso_domain")


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("bob@example.com", "bob"),
        ("Bob Ross/../x", "Bob-Ross-..-x"),
        ("王小明", "王小明"),
        ("x" * 300, "x" * 64),
        ("'; DROP TABLE--\0", "DROP-TABLE"),
        ("@example.com", None),
        ("", None),
        (7, None),
        (["bob"], None),
    ],
)
def test_whatever_the_provider_calls_people_names_here_are_names(
    control: Running, idp: IdentityProvider, browser: Browser, said: Any, name: str | None
) -> None:
    idp.person |= {"preferred_username": said, "name": "N\0" + "n" * 500, "email": "e" * 500}
    browser.sign_in()
    if name is None:
        failed(control, browser, "sso_no_name")
    else:
        assert browser.me()["username"] == name


def test_two_windows_of_a_new_person_make_one_account(database_url: str, tmp_path: Path) -> None:
    settings = Settings(
        console=ConsoleTable(data_dir=tmp_path, public_url=PUBLIC),
        database=DatabaseTable(url=database_url),
        oidc=OidcTable(issuer="https://idp.example.com", client_id="c", default_role="member"),
    )
    identity = Identity("https://idp.example.com", "Ünïque|1", {"preferred_username": "alice"})

    async def main() -> None:
        control: Control = build(settings).state.control
        try:
            await migrate(control.db.engine)
            both = await asyncio.gather(*(sso.sign_in(control, identity, "192.0.2.1") for _ in range(2)))
            assert len({control.vault.read_access_token(one.access) for one in both}) == 1
            other = Identity(identity.issuer, "ünïque|1", {"preferred_username": "someone"})
            await sso.sign_in(control, other, "192.0.2.1")  # subjects differ by case
            async with control.db.read() as session:
                assert len((await session.scalars(User.__table__.select())).all()) == 2
        finally:
            await control.db.close()

    asyncio.run(main())


# ---- the way back ----


def test_the_person_says_no(control: Running, idp: IdentityProvider, browser: Browser) -> None:
    idp.consents = False
    browser.sign_in()
    assert "script" not in failed(control, browser, "sso_denied")
    assert "token" not in idp.asked


def test_an_answer_that_this_browser_did_not_ask_for(control: Running, idp: IdentityProvider, browser: Browser) -> None:
    victim = Browser(control)
    callback = browser.until_callback()
    victim.follow(victim.client.get(control.url + callback))  # the attacker's answer, in the victim's browser
    failed(control, victim, "sso_state")
    victim.until_callback()  # now the victim has a sign-in under way, but another one
    assert victim.follow(victim.client.get(control.url + callback)) == "/login?sso_error=sso_state"
    assert victim.me() == "not_signed_in"
    assert "token" not in idp.asked
    assert browser.follow(browser.client.get(control.url + callback)) == "/", "the code was not used up"


def test_an_answer_is_good_once(control: Running, browser: Browser) -> None:
    callback = browser.until_callback()
    kept = browser.client.cookies["tunegate_sso"]
    assert browser.follow(browser.client.get(control.url + callback)) == "/"
    assert browser.client.cookies.get("tunegate_sso") is None
    thief = Browser(control)
    assert thief.follow(thief.client.get(control.url + callback)) == "/login?sso_error=sso_state"
    thief.client.cookies.set("tunegate_sso", kept)
    assert thief.follow(thief.client.get(control.url + callback)) == "/login?sso_error=sso_provider_refused"
    assert "invalid_grant" in audited(control, "login_failed")[-1]
    assert thief.me() == "not_signed_in"


@pytest.mark.parametrize(
    "what", ["expired", "access token", "garbage", "another issuer", "no state", "no code", "error"]
)
def test_what_else_may_come_back(control: Running, idp: IdentityProvider, browser: Browser, what: str) -> None:
    callback = browser.until_callback()
    vault, code = control.parts.vault, "sso_state"
    if what == "expired":
        flow = vault.read("oidc flow", browser.client.cookies["tunegate_sso"])
        assert flow is not None
        browser.client.cookies.clear()
        browser.client.cookies.set("tunegate_sso", vault.sign("oidc flow", -1, flow))
    elif what in ("access token", "garbage"):
        browser.client.cookies.clear()
        token = vault.access_token("x", 0, 60) if what == "access token" else "a.b.c"
        browser.client.cookies.set("tunegate_sso", token)
    elif what == "another issuer":
        callback += "&iss=https://evil.example"
    elif what == "no state":
        callback = callback.partition("?")[0]
    elif what == "no code":
        callback, code = callback.replace("code=", "other="), "sso_provider_refused"
    else:
        callback, code = callback + "&error=%00%3Cb%3E" + "x" * 200, "sso_provider_refused"
    browser.follow(browser.client.get(control.url + callback))
    failed(control, browser, code)
    assert "token" not in idp.asked


# ---- afterwards ----


def test_a_login_by_single_sign_on_ends_however_busy_it_is(start_control: Start, idp: IdentityProvider) -> None:
    control = start_control(oidc=idp.settings(session_seconds=300), public_url=PUBLIC)
    browser = Browser(control)
    browser.sign_in()
    for _ in range(3):
        assert browser.me()["username"] == "alice"
    rows = control.sql("SELECT DISTINCT ends_at, expires_at FROM refresh_session")
    assert len(rows) == 1, "each refresh keeps the end"
    assert rows[0][0] == rows[0][1]
    control.sql("UPDATE refresh_session SET expires_at = '2020-01-01 00:00:00'")
    assert browser.me() == "not_signed_in"


def test_without_passwords_only_the_break_glass_account_has_one(start_control: Start, idp: IdentityProvider) -> None:
    control = start_control(oidc=idp.settings(password_sign_in=False), public_url=PUBLIC)
    client = control.anonymous()

    def login(username: str, password: str = PASSWORD) -> str:
        answer = client.post("/api/v1/auth/login", json={"username": username, "password": password})
        return str(answer.json().get("code", "in"))

    assert login("operator") == login("nobody") == "password_sign_in_off"
    assert (login("admin"), login("admin", "wrong")) == ("in", "bad_login")
    assert client.get("/api/v1/auth/methods").json()["password"] is False
    assert Browser(control).sign_in() == "/"


def test_many_failures_from_one_network_pause_it_alone(start_control: Start, idp: IdentityProvider) -> None:
    control = start_control(oidc=idp.settings(), public_url=PUBLIC, trusted_proxies=["127.0.0.1/32"])
    url = control.url + "/api/v1/auth/oidc/callback"
    with httpx.Client(trust_env=False, headers={"x-forwarded-for": "192.0.2.7"}) as attacker:
        where = [attacker.get(url).headers["location"] for _ in range(33)]
    assert where[:30] == ["/login?sso_error=sso_state"] * 30
    assert where[30:] == ["/login?sso_error=sso_paused"] * 3
    assert len(audited(control, "login_failed")) == 30, "the log does not grow without bound"
    assert Browser(control).sign_in() == "/"


def test_concurrent_sign_ins_of_many_people(control: Running, idp: IdentityProvider) -> None:
    people = iter([{"sub": f"p-{n}", "preferred_username": f"person{n}"} for n in range(8)])
    idp.alter = lambda claims: claims.update(next(people))

    def one(browser: Browser) -> Any:
        return browser.sign_in(), browser.me()["username"]

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(one, [Browser(control) for _ in range(8)]))
    assert sorted(results) == [("/", f"person{n}") for n in range(8)]


def test_every_code_is_explained() -> None:
    root = Path(__file__).parents[3]
    sources = [path.read_text() for path in (root / "control").rglob("*.py")]
    codes = {code for source in sources for code in re.findall(r'"(sso_[a-z_]+)"', source)}
    page = (root / "docs/operations.md").read_text()
    raised = {code for code in codes if re.search(rf'SsoError\([^)]*"{code}"|code = "{code}"', "".join(sources))}
    assert len(raised) >= 12
    assert [code for code in raised if f"| `{code}` |" not in page] == []


def test_a_flow_is_never_the_same_twice() -> None:
    assert (
        len({value for flow in (Flow.begin("/"), Flow.begin("/")) for value in (flow.state, flow.nonce, flow.verifier)})
        == 6
    )
