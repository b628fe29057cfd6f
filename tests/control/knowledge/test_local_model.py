"""The model that control runs itself: what sentence-transformers says of the same texts, to six digits."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from control.knowledge.local_model import PACKAGED, LocalModel, Unusable, folders

FOLDER = folders({})[PACKAGED]
TEXTS = ["How do I take annual leave?", "年假有几天", "word " * 400, "a", "The engine, it's diesel; HTTP/2!"]
FIRST = [
    [0.0714219, 0.0471203, 0.0185738, 0.0445048],
    [0.0165274, 0.1036313, 0.0905242, 0.0349416],
    [-0.0081237, -0.0955860, -0.0386731, 0.0496620],
    [-0.0364329, 0.0347035, -0.0459599, 0.0343255],
    [-0.1148475, 0.0134797, -0.0351447, 0.0217647],
]
"""First four numbers of each text's vector, as transformers and torch compute them."""


@pytest.fixture(scope="module")
def model() -> LocalModel:
    return LocalModel(FOLDER)


def test_vectors_are_those_of_the_reference(model: LocalModel) -> None:
    vectors = model.embed(TEXTS)
    assert vectors.shape == (5, 384)
    assert np.abs(vectors[:, :4] - np.array(FIRST)).max() < 1e-6
    assert np.abs(np.linalg.norm(vectors, axis=1) - 1).max() < 1e-6


def test_a_text_has_the_same_vector_in_any_company(model: LocalModel) -> None:
    together = model.embed(TEXTS * 2)
    alone = np.concatenate([model.embed([text]) for text in TEXTS])
    assert np.abs(together[:5] - alone).max() < 1e-6
    assert np.abs(together[5:] - alone).max() < 1e-6
    assert model.embed([]).shape == (0, 384)


def test_tokens_are_counted_of_the_whole_text(model: LocalModel) -> None:
    assert model.count(["hello world", "", "word " * 400]) == [2, 0, 400]
    assert model.longest == 256


def test_a_folder_that_cannot_be_run_says_why(tmp_path: Path) -> None:
    with pytest.raises(Unusable, match="no folder of a model"):
        LocalModel(tmp_path)
    other = tmp_path / "other"
    shutil.copytree(FOLDER, other)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"model_type": "t5"}))
    with pytest.raises(Unusable, match="'t5'"):
        LocalModel(other)
