"""What several test files share: the instruction sets in turn, one thread, small models with random weights."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings

from unrolled import _engine, modelfile
from unrolled.architecture import TextArchitecture
from unrolled.modelfile import ModelFile
from unrolled.vocabulary import CharVocabulary, Vocabulary

# The same examples at every run, so that a failure seen once can be seen again.
settings.register_profile("fixed", derandomize=True, deadline=None)
settings.load_profile("fixed")


@pytest.fixture(params=_engine.isas())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each instruction set of this machine in turn."""
    before = _engine.isa()
    _engine.use_isa(request.param)
    yield request.param
    _engine.use_isa(before)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """One thread, unless the test asks for more, and then the count as it was."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _random_model(
    cell: str = "lstm", layers: int = 2, hidden: int = 17, vocabulary: Vocabulary | None = None
) -> ModelFile:
    vocabulary = vocabulary or CharVocabulary("\n abcdefgh")
    architecture = TextArchitecture(cell, vocabulary.size, 5, hidden, layers)
    rng = np.random.default_rng(0)
    # Wide enough that some symbols are far likelier than others, and the past matters.
    tensors = {name: rng.normal(0, 0.5, shape).astype(np.float32) for name, shape in architecture.shapes().items()}
    training = {"names": ["a.txt"], "data": "0" * 64, "level": vocabulary.level, "split": 0.9}
    return ModelFile("text", architecture, vocabulary.to_json(), training, tensors)


@pytest.fixture
def random_model() -> Callable[..., ModelFile]:
    """Makes a text model: (cell="lstm", layers=2, hidden=17, vocabulary=ten characters) -> ModelFile."""
    return _random_model


@pytest.fixture
def model_path(tmp_path: Path) -> Path:
    """The file of a small text model."""
    path = tmp_path / "model.safetensors"
    modelfile.write(path, _random_model())
    return path
