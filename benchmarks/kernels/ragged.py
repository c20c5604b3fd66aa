"""Rows of different length, rows that start anew, and numbers that arithmetic finds hard: what they cost."""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from benchmarks.kernels.peers import Layer, difference, fallback, pair
from benchmarks.kernels.row import OWN, Case, Trial
from benchmarks.kernels.training import drawn, exactly, infer, train

__all__ = ["ragged_cases"]

B, T, D, H = 32, 400, 256, 256
AS_DENSE = "dense for the same steps"
PACKED = "torch packed"
RESETS = 0.02  # of all steps
HARD_STEPS = 100


def ragged_cases() -> Iterator[Case]:
    """Lengths uniform in [T/4, T] in any order; then resets at random steps, and gates or states at their ends."""
    size = f"{B}-{T}-{D}-{H}"
    dense = {AS_DENSE: 1 / 1.1}
    yield Case(f"lstm-{size}-lengths-forward", partial(ragged, forward), {PACKED: 2.5} | dense)
    yield Case(f"lstm-{size}-lengths-training", partial(ragged, train), {PACKED: 20.0} | dense)
    yield Case(f"lstm-{size}-resets-training", resets, {"without": 0.97})
    for name, hard in (("saturated", saturated), ("denormal", denormal)):
        yield Case(f"lstm-{B}-{HARD_STEPS}-{D}-{H}-{name}", hard, {"normal": 1 / 1.2})


def random_lengths() -> Tensor:
    """A length for each row [B]."""
    return torch.randint(T // 4, T + 1, (B,), generator=torch.Generator().manual_seed(0))


def forward(layer: torch.nn.Module, x: Tensor, grad: Tensor, **masks: Tensor) -> dict[str, Tensor]:
    """The output alone, for inference; called as `train` is."""
    return {"output": infer(layer, x, **masks)}


class Packed(torch.nn.Module):
    """torch's layer over rows that were packed before: only what the layer itself takes is timed."""

    def __init__(self, layer: torch.nn.RNNBase, rows: PackedSequence) -> None:
        super().__init__()
        self.layer, self.rows = layer, rows

    def forward(self, data: Tensor) -> tuple[Tensor, object]:
        """The packed numbers [steps taken, D] -> [steps taken, H]."""
        output, state = self.layer(PackedSequence(data, *self.rows[1:]))
        return output.data, state


def ragged(run: Callable[..., dict[str, Tensor]]) -> Trial:
    """Rows of different length, forward or with gradients."""
    ours, theirs = pair("lstm", D, H)
    lengths, (x, grad) = random_lengths(), drawn((B, T, D, H))
    own = partial(run, ours, x, grad, lengths=lengths)
    exact, _ = pair("lstm", D, H)
    right = run(exact.double(), x.double(), grad.double(), lengths=lengths)
    taken = float(lengths.sum()) / (B * T)
    rows, grads = (pack_padded_sequence(one, lengths, enforce_sorted=False) for one in (x, grad))
    packed = partial(run, Packed(theirs, rows), rows.data, grads.data)
    return Trial(
        {OWN: own, AS_DENSE: partial(run, ours, x, grad), PACKED: packed},
        difference(own(), right) or fallback(own, "lstm"),
        worth={AS_DENSE: taken},
        note=f"{100 * taken:.0f} % of the steps are taken",
    )


def resets() -> Trial:
    """Rows whose state becomes zero here and there, beside rows that run through."""
    ours, _ = pair("lstm", D, H)
    x, grad = drawn((B, T, D, H))
    given = torch.rand(T, B) < RESETS
    own = partial(train, ours, x, grad, resets=given)
    right = exactly(ours, x, grad, resets=given)
    return Trial(
        {OWN: own, "without": partial(train, ours, x, grad)}, difference(own(), right) or fallback(own, "lstm")
    )


def hard(change: Callable[[Layer, Tensor], Tensor]) -> Trial:
    """Inputs, and perhaps weights, that `change` makes hard, beside what they were before."""
    x, grad = drawn((B, HARD_STEPS, D, H))
    ours, theirs = pair("lstm", D, H)
    normal, _ = pair("lstm", D, H)
    x_hard = change(ours, x)
    theirs.load_state_dict(ours.state_dict())
    own = partial(train, ours, x_hard, grad)
    right = exactly(ours, x_hard, grad)
    return Trial(
        {OWN: own, "normal": partial(train, normal, x, grad), "torch": partial(train, theirs, x_hard, grad)},
        difference(own(), right) or fallback(own, "lstm"),
    )


def saturated() -> Trial:
    """Gates wide open or shut, where their slopes vanish."""
    return hard(lambda _, x: 100 * x)


def denormal() -> Trial:
    """Inputs and states below the smallest normal number in all rows but one, which keeps the check strict."""

    def change(layer: Layer, x: Tensor) -> Tensor:
        with torch.no_grad():
            for name, parameter in layer.named_parameters():
                if name.startswith("bias"):
                    parameter.zero_()
        x = x.clone()
        x[:, 1:] *= 1e-40
        return x

    return hard(change)
