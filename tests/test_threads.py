"""Training on several threads: whichever of them takes a part of the work, no bit changes."""

import pytest
import torch
from torch import Tensor

from unrolled import nn

pytestmark = pytest.mark.usefixtures("one_thread")


def gradients(layer: nn.LSTM | nn.GRU | nn.RNN, x: Tensor, lengths: Tensor) -> list[Tensor]:
    """A pass forward and back: the output, and the gradients of input and parameters."""
    x = x.clone().requires_grad_()
    y = layer(x, lengths=lengths)[0]
    found = torch.autograd.grad(y.square().sum(), [x, *layer.parameters()])
    return [y.detach(), *found]


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize(("rows", "units"), [(40, 64), (5, 260)])  # by rows, by units
def test_any_number_of_threads_gives_the_bits_of_one(
    kind: type[nn.LSTM | nn.GRU | nn.RNN], rows: int, units: int
) -> None:
    torch.manual_seed(0)
    layer = kind(30, units, bidirectional=True)
    x, lengths = torch.randn(90, rows, 30), torch.randint(45, 91, (rows,))
    expected = gradients(layer, x, lengths)
    for threads in (2, 3, 7) * 3:
        torch.set_num_threads(threads)
        for found, right in zip(gradients(layer, x, lengths), expected, strict=True):
            assert torch.equal(found, right)
