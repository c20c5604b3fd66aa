"""How gates begin that are to remember for long: by biases that keep them open."""

import torch

from unrolled.errors import InputError

__all__ = ["chrono"]


def chrono(layer: torch.nn.RNNBase, longest_gap: int) -> None:
    """Set the gates' biases so that the units remember from 1 to `longest_gap` steps (Tallec & Ollivier 2018).

    What keeps the state (f of an LSTM, z of a GRU) gets the bias log(u), u uniform in 1 to longest_gap - 1, so
    that a unit forgets in about u steps, and an LSTM's i gets its negative, which is all where f is coupled to it.
    Other biases stay. Raises `InputError` for a gap under 2, for layers without bias and for other kinds.
    """
    if not isinstance(layer, torch.nn.RNNBase) or layer.mode not in ("LSTM", "GRU"):
        raise InputError(f"layer is a {type(layer).__name__}, expected an LSTM or a GRU, whose gates it opens")
    if not isinstance(longest_gap, int) or longest_gap < 2:
        raise InputError(f"longest_gap is {longest_gap!r}, expected a whole number from 2")
    if not layer.bias:
        raise InputError('init="chrono" sets biases, but the layer has bias=False')
    H, lstm = layer.hidden_size, layer.mode == "LSTM"
    with torch.no_grad():
        for name, bias in layer.named_parameters():
            if name.startswith("bias_ih"):
                other = layer.get_parameter(name.replace("bias_ih", "bias_hh"))
                log_times = torch.empty_like(bias[:H]).uniform_(1, max(2, longest_gap - 1)).log_()
                if len(bias) == 4 * H or not lstm:
                    bias[H : 2 * H] = log_times
                    other[H : 2 * H] = 0
                if lstm:
                    bias[:H] = -log_times
                    other[:H] = 0
