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

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = [
    "NOT_NORMALISED",
    "PLAIN",
    "LayerNorm",
    "LstmGradients",
    "Variant",
    "gru_step",
    "gru_step_backward",
    "lstm_step",
    "lstm_step_backward",
    "product",
    "rnn_step",
    "rnn_step_backward",
    "with_norm",
    "with_norm_backward",
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


class Variant(NamedTuple):
    """How an LSTM departs from the plain one; what is None does not apply.

    - weight_hr [P,H], a recurrent projection: h is P wide. Sak, Senior and Beaufays, "Long short-term memory
      recurrent neural network architectures for large scale acoustic modeling", Interspeech 2014.
    - peephole [3,H]: i, f and o see the cell state, unit by unit. Gers and Schmidhuber, "Recurrent nets that time
      and count", IJCNN 2000; diagonal as in Graves, "Generating sequences with recurrent neural networks",
      arXiv:1308.0850, 2013. [2,H], i and o, where f is coupled.
    - dropout [B,H] or [H], factors of the candidate g: 0 or 1 / (1 - p). Semeniuta, Severyn and Barth,
      "Recurrent dropout without memory loss", COLING 2016.
    - zoneout_h, zoneout_c [B,H] or [H] (zoneout_h P wide with a projection), the part of h and c that stays as it
      was: 0 or 1 in training, the probability itself in evaluation. Krueger et al., "Zoneout: regularizing RNNs
      by randomly preserving hidden activations", ICLR 2017.

    One more needs no tensor of its own: with weight_hh [3H,H] and x_gates [B,3H] (i, g, o), the forget gate is
    1 - i. That is the coupled input and forget gate (CIFG) of Greff et al., "LSTM: a search space odyssey", IEEE
    Transactions on Neural Networks and Learning Systems 28(10), 2017.
    """

    weight_hr: Tensor | None = None
    peephole: Tensor | None = None
    dropout: Tensor | None = None
    zoneout_h: Tensor | None = None
    zoneout_c: Tensor | None = None


PLAIN = Variant()


class LayerNorm(NamedTuple):
    """Layer normalisation of an LSTM's products and of its c before the tanh; None where there is none.

    Ba, Kiros and Hinton, "Layer normalization", arXiv:1607.06450, 2016, equations 20 to 22: the products with x
    and with h are normalised over all gates of a row and multiplied by gain_ih and gain_hh [4H]; c over its units,
    with gain_c and bias_c [H]. gain_ih is for whoever makes x_gates. Of the three biases that the paper adds to
    the gates' sums one is enough: it is in x_gates.
    """

    gain_ih: Tensor | None = None
    gain_hh: Tensor | None = None
    gain_c: Tensor | None = None
    bias_c: Tensor | None = None


NOT_NORMALISED = LayerNorm()


def lstm_step(
    x_gates: Tensor,
    weight_hh: Tensor,
    h_prev: Tensor,
    c_prev: Tensor,
    variant: Variant = PLAIN,
    norm: LayerNorm = NOT_NORMALISED,
) -> tuple[Tensor, Tensor, Tensor]:
    """One step of the long short-term memory.

    Hochreiter and Schmidhuber, "Long short-term memory", Neural Computation 9(8), 1997; with the forget gate
    of Gers, Schmidhuber and Cummins, "Learning to forget", Neural Computation 12(10), 2000.

    Shapes: x_gates [B,4H] in the order i, f, g, o; weight_hh [4H,H]; h_prev, c_prev [B,H]. With a projection:
    weight_hh [4H,P], h_prev [B,P]. Returns h (as h_prev), c [B,H], gates [B,4H] after activation (i, f, g, o);
    with a norm, the product with h as `with_norm` keeps it follows them: [B,4H+4H+1].
    """
    recurrent, *kept = with_norm(product(h_prev, weight_hh.T), norm.gain_hh)
    a_i, *a_f, a_g, a_o = torch.split(x_gates + recurrent, c_prev.shape[-1], dim=-1)
    p_i, p_f, p_o = _peepholes(variant, coupled=not a_f)
    i = torch.sigmoid(_with_peephole(a_i, p_i, c_prev))
    f = torch.sigmoid(_with_peephole(a_f[0], p_f, c_prev)) if a_f else 1 - i
    g = torch.tanh(a_g)
    c = f * c_prev + i * _dropped(g, variant.dropout)
    o = torch.sigmoid(_with_peephole(a_o, p_o, c))
    squashed, *_ = with_norm(c, norm.gain_c, norm.bias_c)
    h = o * torch.tanh(squashed)
    if variant.weight_hr is not None:
        h = h @ variant.weight_hr.T
    h = _zoned_out(variant.zoneout_h, h_prev, h)
    return h, _zoned_out(variant.zoneout_c, c_prev, c), torch.cat((i, f, g, o, *kept), dim=-1)


def with_norm(values: Tensor, gain: Tensor | None, bias: Tensor | None = None) -> tuple[Tensor, ...]:
    """The gain [n] by rows [B,n] normalised, plus a bias [n]; then what the way back takes.

    That is the rows normalised and 1 over their standard deviation [B,1]. Without a gain: the values alone.
    """
    if gain is None:
        return (values,)
    centred = values - values.mean(-1, keepdim=True)
    scale = (centred.square().mean(-1, keepdim=True) + 1e-5).rsqrt()
    normal = centred * scale
    return gain * normal if bias is None else gain * normal + bias, normal, scale


def with_norm_backward(grad: Tensor, gain: Tensor | None, *kept: Tensor) -> Tensor:
    """Back through `with_norm` to the values, from what it returned for that."""
    if gain is None:
        return grad
    grad, (normal, scale) = grad * gain, kept
    return scale * (grad - grad.mean(-1, keepdim=True) - normal * (grad * normal).mean(-1, keepdim=True))


class LstmGradients(NamedTuple):
    """What `lstm_step_backward` finds.

    `gates` [B,4H] ([B,3H] where f is coupled) before the activation, `h_prev`, `c_prev`; with peepholes each
    row's share of their gradient [B,3H] ([B,2H]); with a projection the factors of its weight's gradient, the sum
    over rows of `projected` [B,P] by `unprojected` [B,H]. With a norm the gradient at the product with h, which
    else is `gates`, and each row's share of the gradients of gain_hh, gain_c and bias_c, side by side [B,6H].
    """

    gates: Tensor
    h_prev: Tensor
    c_prev: Tensor
    peephole: Tensor | None
    projected: Tensor | None
    unprojected: Tensor | None
    product: Tensor | None
    norm: Tensor | None


def lstm_step_backward(
    grad_h: Tensor,
    grad_c: Tensor,
    weight_hh: Tensor,
    c_prev: Tensor,
    c: Tensor,
    gates: Tensor,
    variant: Variant = PLAIN,
    norm: LayerNorm = NOT_NORMALISED,
) -> LstmGradients:
    """Back through `lstm_step`, from the c and the gates that it returned (what else follows is not read)."""
    coupled = len(weight_hh) == 3 * c.shape[-1]
    p_i, p_f, p_o = _peepholes(variant, coupled)
    i, f, g, o = gates[..., : 4 * c.shape[-1]].chunk(4, dim=-1)
    if variant.zoneout_c is not None:
        c = f * c_prev + i * _dropped(g, variant.dropout)
    kept_h, grad_h = _zoned_out_backward(variant.zoneout_h, grad_h)
    kept_c, grad_c = _zoned_out_backward(variant.zoneout_c, grad_c)
    projected = grad_h
    if variant.weight_hr is not None:
        grad_h = grad_h @ variant.weight_hr
    squashed, *of_c = with_norm(c, norm.gain_c, norm.bias_c)
    tanh_c = torch.tanh(squashed)
    grad_o = grad_h * tanh_c * o * (1 - o)
    grad_squashed = grad_h * o * (1 - tanh_c * tanh_c)
    grad_c = _with_peephole(grad_c + with_norm_backward(grad_squashed, norm.gain_c, *of_c), p_o, grad_o)
    grad_i = grad_c * _dropped(g, variant.dropout) * i * (1 - i)
    grad_f = grad_c * c_prev * f * (1 - f)
    grad_g = _dropped(grad_c * i, variant.dropout) * (1 - g * g)
    grad_c_prev = grad_c * f + kept_c
    if coupled:  # f = 1 - i
        grad_i = grad_i - grad_f
        grad_gates = torch.cat((grad_i, grad_g, grad_o), dim=-1)
    else:
        grad_c_prev = _with_peephole(grad_c_prev, p_f, grad_f)
        grad_gates = torch.cat((grad_i, grad_f, grad_g, grad_o), dim=-1)
    grad_c_prev = _with_peephole(grad_c_prev, p_i, grad_i)
    first, past = 4 * c.shape[-1], 4 * c.shape[-1] + len(weight_hh)
    normal_product, scale = gates[..., first:past], gates[..., past : past + 1]
    grad_product = with_norm_backward(grad_gates, norm.gain_hh, normal_product, scale)
    grad_h_prev = product(grad_product, weight_hh) + kept_h
    of_peephole = None
    if variant.peephole is not None:
        before = (grad_i * c_prev,) if coupled else (grad_i * c_prev, grad_f * c_prev)
        of_peephole = torch.cat((*before, grad_o * c), dim=-1)
    of_projection = (None, None) if variant.weight_hr is None else (projected, o * tanh_c)
    of_norm: tuple[Tensor | None, Tensor | None] = (None, None)
    if norm.gain_hh is not None:
        of_gains = (grad_gates * normal_product, grad_squashed * of_c[0], grad_squashed)
        of_norm = (grad_product, torch.cat(of_gains, dim=-1))
    found = (grad_gates, grad_h_prev, grad_c_prev, of_peephole, *of_projection, *of_norm)
    return LstmGradients(*found)


def _peepholes(variant: Variant, coupled: bool) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """The weights [H] with which i, f and o see the cell state."""
    if variant.peephole is None:
        return None, None, None
    if coupled:
        p_i, p_o = variant.peephole
        return p_i, None, p_o
    p_i, p_f, p_o = variant.peephole
    return p_i, p_f, p_o


def _with_peephole(a: Tensor, peephole: Tensor | None, c: Tensor) -> Tensor:
    return a if peephole is None else a + peephole * c


def _dropped(g: Tensor, dropout: Tensor | None) -> Tensor:
    return g if dropout is None else g * dropout


def _zoned_out(zoneout: Tensor | None, before: Tensor, new: Tensor) -> Tensor:
    return new if zoneout is None else zoneout * before + (1 - zoneout) * new


def _zoned_out_backward(zoneout: Tensor | None, grad: Tensor) -> tuple[Tensor | float, Tensor]:
    """The gradients of what was before, and of what is new."""
    return (0.0, grad) if zoneout is None else (zoneout * grad, (1 - zoneout) * grad)


def gru_step(
    x_gates: Tensor, weight_hh: Tensor, bias_hn: Tensor, h_prev: Tensor, zoneout_h: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """One step of the gated recurrent unit.

    Cho et al., "Learning phrase representations using RNN encoder-decoder for statistical machine
    translation", EMNLP 2014, in the form of cuDNN and PyTorch: r multiplies W_hn h + b_hn, after the product,
    and not h before it.

    Shapes: x_gates [B,3H] in the order r, z, n, with the recurrent biases of r and z already added; weight_hh
    [3H,H]; bias_hn [H]; h_prev [B,H]; zoneout_h as in `Variant`. Returns h [B,H], gates [B,4H] = r, z, n after
    activation and hn = W_hn h + b_hn, which the backward step needs.
    """
    x_r, x_z, x_n = x_gates.chunk(3, dim=-1)
    h_r, h_z, h_n = product(h_prev, weight_hh.T).chunk(3, dim=-1)
    r = torch.sigmoid(x_r + h_r)
    z = torch.sigmoid(x_z + h_z)
    hn = h_n + bias_hn
    n = torch.tanh(x_n + r * hn)
    h = (1 - z) * n + z * h_prev
    return _zoned_out(zoneout_h, h_prev, h), torch.cat((r, z, n, hn), dim=-1)


def gru_step_backward(
    grad_h: Tensor, weight_hh: Tensor, h_prev: Tensor, gates: Tensor, zoneout_h: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Back through `gru_step`. Returns grad_x_gates [B,3H], grad_h_gates [B,3H], grad_h_prev [B,H].

    The two differ in their last third: grad_x_gates holds the gradient of n before its tanh, grad_h_gates
    that of hn. So grad_weight_hh = grad_h_gates.T @ h_prev; grad_bias_hn is the last third of grad_h_gates.
    """
    r, z, n, hn = gates.chunk(4, dim=-1)
    kept_h, grad_h = _zoned_out_backward(zoneout_h, grad_h)
    grad_n = grad_h * (1 - z) * (1 - n * n)
    grad_z = grad_h * (h_prev - n) * z * (1 - z)
    grad_r = grad_n * hn * r * (1 - r)
    grad_hn = grad_n * r
    grad_x_gates = torch.cat((grad_r, grad_z, grad_n), dim=-1)
    grad_h_gates = torch.cat((grad_r, grad_z, grad_hn), dim=-1)
    grad_h_prev = product(grad_h_gates, weight_hh) + grad_h * z + kept_h
    return grad_x_gates, grad_h_gates, grad_h_prev
