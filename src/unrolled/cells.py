"""The equations of the three cells, one step forward and one step backward, one line an equation.

This is the reference that every kernel is tested against and the page to hold beside the papers. It knows one
step only: nothing of sequences, lengths, resets, layers or autograd.

Every function takes the input's share of the gates, `x_gates = x @ weight_ih.T + biases`, already computed,
and works in any floating dtype. B rows, H hidden units, P projected units; `*` is elementwise, `@` a matrix
product. A backward step takes the gradient of the loss with respect to the step's results and returns the
gradient with respect to what it consumed; `grad_gates` are gradients before the activation, so a caller gets

    grad_weight_hh = grad_gates.T @ h_prev        (summed over steps)
    grad_x         = grad_gates @ weight_ih
"""

import torch
from torch import Tensor

__all__ = [
    "gru_step",
    "gru_step_backward",
    "lstm_step",
    "lstm_step_backward",
    "product",
    "rnn_step",
    "rnn_step_backward",
]


def product(x: Tensor, weight: Tensor) -> Tensor:
    """x @ weight in the dtype of x; the factors are read in the weight's, which may be a smaller one."""
    return (x.to(weight.dtype) @ weight).to(x.dtype)


def rnn_step(x_gates: Tensor, weight_hh: Tensor, h_prev: Tensor, relu: bool = False) -> Tensor:
    """One step of the standard recurrent network.

    Elman, "Finding structure in time", Cognitive Science 14(2), 1990.

    Shapes: x_gates [B,H], weight_hh [H,H], h_prev [B,H]. Returns h [B,H]. `relu` puts max(0, .) for tanh.
    """
    a = x_gates + product(h_prev, weight_hh.T)
    return torch.relu(a) if relu else torch.tanh(a)


def rnn_step_backward(grad_h: Tensor, weight_hh: Tensor, h: Tensor, relu: bool = False) -> tuple[Tensor, Tensor]:
    """Back through `rnn_step`, from its result h [B,H] alone. Returns grad_gates [B,H], grad_h_prev [B,H]."""
    grad_gates = torch.where(h > 0, grad_h, 0) if relu else grad_h * (1 - h * h)
    grad_h_prev = product(grad_gates, weight_hh)
    return grad_gates, grad_h_prev


def lstm_step(
    x_gates: Tensor, weight_hh: Tensor, h_prev: Tensor, c_prev: Tensor, weight_hr: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """One step of the long short-term memory.

    Hochreiter and Schmidhuber, "Long short-term memory", Neural Computation 9(8), 1997; with the forget gate
    of Gers, Schmidhuber and Cummins, "Learning to forget", Neural Computation 12(10), 2000. With `weight_hr`,
    the recurrent projection of Sak, Senior and Beaufays, "Long short-term memory recurrent neural network
    architectures for large scale acoustic modeling", Interspeech 2014.

    Shapes: x_gates [B,4H] in the order i, f, g, o; weight_hh [4H,H]; h_prev, c_prev [B,H]. With weight_hr
    [P,H]: weight_hh [4H,P], h_prev [B,P]. Returns h (as h_prev), c [B,H], gates [B,4H] after activation.
    """
    i, f, g, o = (x_gates + product(h_prev, weight_hh.T)).chunk(4, dim=-1)
    i = torch.sigmoid(i)
    f = torch.sigmoid(f)
    g = torch.tanh(g)
    o = torch.sigmoid(o)
    c = f * c_prev + i * g
    h = o * torch.tanh(c)
    if weight_hr is not None:
        h = h @ weight_hr.T
    return h, c, torch.cat((i, f, g, o), dim=-1)


def lstm_step_backward(
    grad_h: Tensor,
    grad_c: Tensor,
    weight_hh: Tensor,
    c_prev: Tensor,
    c: Tensor,
    gates: Tensor,
    weight_hr: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Back through `lstm_step`. Returns grad_gates [B,4H], grad_h_prev (as grad_h), grad_c_prev [B,H]."""
    i, f, g, o = gates.chunk(4, dim=-1)
    if weight_hr is not None:
        grad_h = grad_h @ weight_hr
    tanh_c = torch.tanh(c)
    grad_c = grad_c + grad_h * o * (1 - tanh_c * tanh_c)
    grad_i = grad_c * g * i * (1 - i)
    grad_f = grad_c * c_prev * f * (1 - f)
    grad_g = grad_c * i * (1 - g * g)
    grad_o = grad_h * tanh_c * o * (1 - o)
    grad_gates = torch.cat((grad_i, grad_f, grad_g, grad_o), dim=-1)
    grad_h_prev = product(grad_gates, weight_hh)
    grad_c_prev = grad_c * f
    return grad_gates, grad_h_prev, grad_c_prev


def gru_step(x_gates: Tensor, weight_hh: Tensor, bias_hn: Tensor, h_prev: Tensor) -> tuple[Tensor, Tensor]:
    """One step of the gated recurrent unit.

    Cho et al., "Learning phrase representations using RNN encoder-decoder for statistical machine
    translation", EMNLP 2014, in the form of cuDNN and PyTorch: r multiplies W_hn h + b_hn, after the product,
    and not h before it.

    Shapes: x_gates [B,3H] in the order r, z, n, with the recurrent biases of r and z already added; weight_hh
    [3H,H]; bias_hn [H]; h_prev [B,H]. Returns h [B,H], gates [B,4H] = r, z, n after activation and
    hn = W_hn h + b_hn, which the backward step needs.
    """
    x_r, x_z, x_n = x_gates.chunk(3, dim=-1)
    h_r, h_z, h_n = product(h_prev, weight_hh.T).chunk(3, dim=-1)
    r = torch.sigmoid(x_r + h_r)
    z = torch.sigmoid(x_z + h_z)
    hn = h_n + bias_hn
    n = torch.tanh(x_n + r * hn)
    h = (1 - z) * n + z * h_prev
    return h, torch.cat((r, z, n, hn), dim=-1)


def gru_step_backward(
    grad_h: Tensor, weight_hh: Tensor, h_prev: Tensor, gates: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Back through `gru_step`. Returns grad_x_gates [B,3H], grad_h_gates [B,3H], grad_h_prev [B,H].

    The two differ in their last third: grad_x_gates holds the gradient of n before its tanh, grad_h_gates
    that of hn. So grad_weight_hh = grad_h_gates.T @ h_prev; grad_bias_hn is the last third of grad_h_gates.
    """
    r, z, n, hn = gates.chunk(4, dim=-1)
    grad_n = grad_h * (1 - z) * (1 - n * n)
    grad_z = grad_h * (h_prev - n) * z * (1 - z)
    grad_r = grad_n * hn * r * (1 - r)
    grad_hn = grad_n * r
    grad_x_gates = torch.cat((grad_r, grad_z, grad_n), dim=-1)
    grad_h_gates = torch.cat((grad_r, grad_z, grad_hn), dim=-1)
    grad_h_prev = product(grad_h_gates, weight_hh) + grad_h * z
    return grad_x_gates, grad_h_gates, grad_h_prev
