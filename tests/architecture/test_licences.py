"""What is shipped may be shipped: every package of the images and the console has a licence that companies may use."""

from __future__ import annotations

import json
import re
from importlib import metadata

import pytest

from tests.architecture.test_locks import ROOT, pinned

GOOD = re.compile(
    r"\b(0BSD|Apache|BSD|CC0-1\.0|CNRI-Python|HPND|ISC|MIT|MIT-0|MIT-CMU|MPL-2\.0|Mozilla Public License 2\.0|PSF|"
    r"Python Software Foundation|Python-2\.0|Unlicense|Zlib|zlib|BlueOak-1\.0\.0)\b"
)

BAD = re.compile(r"GPL|GNU|SSPL|BUSL|Proprietary|Non-?Commercial", re.IGNORECASE)


def good(told: str) -> bool:
    """Whether a company may use it: of several that one may choose from, one is enough."""
    return any(GOOD.search(one) and not BAD.search(one) for one in told.split(" OR "))


def licence(name: str) -> str:
    """What an installed package says of its licence: its SPDX expression, its classifiers, or its own words."""
    told = metadata.metadata(name)
    classifiers = [one for one in told.get_all("Classifier", []) if one.startswith("License ::")]
    return told.get("License-Expression") or "; ".join(classifiers) or told.get("License", "")[:60]


@pytest.mark.parametrize("lock", ["gateway", "control", "trainer"])
def test_packages_of_the_images(lock: str) -> None:
    found = {}
    for name in pinned(ROOT / f"requirements/{lock}.lock"):
        try:
            found[name] = licence(name)
        except metadata.PackageNotFoundError:  # it is for another system
            continue
    assert len(found) > 5
    assert not {name: told for name, told in found.items() if not good(told)}


def test_packages_of_the_console() -> None:
    packages = json.loads((ROOT / "console/package-lock.json").read_text())["packages"]
    shipped = {name: one for name, one in packages.items() if name and not one.get("dev")}
    assert len(shipped) > 20
    assert not {name: one.get("license") for name, one in shipped.items() if not good(str(one.get("license")))}


def test_a_licence_that_binds_what_stands_beside_it_is_found() -> None:
    assert not good("MIT AND GPL-3.0-only")
    assert not good("License :: OSI Approved :: GNU Lesser General Public License v3 (LGPLv3)")
    assert not good("")
    assert good("GPL-2.0-only OR Apache-2.0")
