"""Schemathesis calls every operation with good and bad input: no 500, no answer that the schema does not name."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.control.api import character_classes
from tests.control.api.conftest import Start
from tests.control.knowledge.conftest import milvus
from tests.fakes.milvus import MilvusLite
from tests.fakes.oidc import IdentityProvider

__all__ = ["milvus"]

CHECKS = ",".join(
    (
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_schema_conformance",
        "negative_data_rejection",
    )
)
SEED = "20261124"
ROOT = Path(__file__).parents[3]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("part", ["people", "knowledge", "internal", "retrieval", "single sign-on"])
def test_no_operation_breaks_its_promise(
    start_control: Start, idp: IdentityProvider, milvus: MilvusLite, tmp_path: Path, part: str
) -> None:
    knowledge = {"knowledge": {"milvus_uri": milvus.uri}} if part in ("knowledge", "retrieval") else {}
    control = start_control(oidc=idp.settings(), public_url="http://console.test", **knowledge)
    token = (
        control.service_token
        if part in ("internal", "retrieval")
        else control.admin.headers["authorization"].split()[1]
    )
    # made when it is first asked for, which takes a busy machine longer than the ten seconds that schemathesis waits
    assert control.anonymous().get("/openapi.json").is_success
    which = {
        "people": ["--exclude-path-regex", "^/internal/|/sso$|/oidc/|/v1/knowledge"],
        "knowledge": ["--include-path-regex", "^/api/v1/knowledge"],
        "internal": ["--include-path-regex", "^/internal/(?!v1/retrieval)"],
        "retrieval": ["--include-path-regex", "^/internal/v1/retrieval"],
        "single sign-on": ["--include-path-regex", "/sso$|/oidc/|/methods$"],
    }[part]
    done = subprocess.run(
        [
            str(Path(sys.executable).parent / "schemathesis"), "run", f"{control.url}/openapi.json", *which,
            # changing one's own password or being signed out would end the token that the run uses
            "--exclude-path", "/api/v1/auth/password", "--exclude-path", "/api/v1/users/{username}/reset-password",
            "-H", f"Authorization: Bearer {token}", "--checks", CHECKS, "--phases", "examples,coverage,fuzzing",
            "--max-examples", "3", "--seed", SEED, "--request-timeout", "20", "--no-color",
        ],
        check=False, capture_output=True, text=True, cwd=tmp_path, timeout=800,
        env=os.environ | {"SCHEMATHESIS_HOOKS": character_classes.__name__, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-12_000:] + done.stderr[-2_000:]
