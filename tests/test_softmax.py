"""Log probabilities: torch's numbers, and numbers however large the outputs are."""

import numpy as np
import torch

from small import random
from tolerances import assert_close
from unrolled.softmax import log_softmax


def test_log_probabilities_are_torchs_in_float64() -> None:
    logits = random(7, 3, 5, scale=4)
    found = log_softmax(logits)
    assert found.dtype == np.float64
    assert_close(torch.from_numpy(found), torch.from_numpy(logits).double().log_softmax(-1))


def test_large_outputs_have_log_probabilities_too() -> None:
    assert log_softmax(np.array([[2000.0, 0.0], [-2000.0, 0.0]], np.float32)).tolist() == [[0, -2000], [-2000, 0]]
