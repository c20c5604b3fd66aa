"""Which optimiser moves which parameter.

The matrices inside a network (of recurrent and linear layers, and of convolutions) are moved by Muon, whose steps
change all directions of a matrix by the same amount; embeddings, heads, biases and the rest by AdamW (Loshchilov &
Hutter 2019). It learns far more from the same number of steps: docs/training.md.
"""

from collections.abc import Iterator

from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from unrolled.models.layers import Head
from unrolled.muon import Muon
from unrolled.recipe import TrainOptions

__all__ = ["load_state", "make", "set_rate", "state"]

ADAMW_RATE = 0.4  # of lr, which is Muon's


def make(model: nn.Module, options: TrainOptions) -> list[Optimizer]:
    """The optimisers of a model; vectors (biases) are not decayed."""
    inside: dict[int, list[Tensor]] = {}
    for module in model.modules():
        for gates, parameter in _matrices(module):
            inside.setdefault(gates, []).append(parameter)
    taken = {id(parameter) for parameters in inside.values() for parameter in parameters}
    rest = [parameter for parameter in model.parameters() if id(parameter) not in taken]
    decay = options.weight_decay
    groups = [
        {"params": [p for p in rest if p.dim() > 1], "weight_decay": decay, "rate": ADAMW_RATE},
        {"params": [p for p in rest if p.dim() <= 1], "weight_decay": 0.0, "rate": ADAMW_RATE},
    ]
    made: list[Optimizer] = [AdamW([g for g in groups if g["params"]], betas=(0.9, 0.99), fused=True)]
    if inside:
        by_gates = [{"params": found, "gates": gates, "rate": 1.0} for gates, found in inside.items()]
        made.append(Muon(by_gates, weight_decay=decay))
    return made


def _matrices(module: nn.Module) -> Iterator[tuple[int, Tensor]]:
    """The module's own matrices for Muon, each with how many gates it has."""
    if isinstance(module, nn.RNNBase):
        for name, parameter in module.named_parameters():
            if name.startswith(("weight_ih", "weight_hh")):
                yield len(parameter) // module.hidden_size, parameter
            elif name.startswith("weight_hr"):
                yield 1, parameter
    elif isinstance(module, nn.Linear | nn.Conv2d) and not isinstance(module, Head):
        yield 1, module.weight


def set_rate(optimizers: list[Optimizer], lr: float) -> None:
    """Set the learning rate of the coming step."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = lr * group["rate"]


def state(optimizers: list[Optimizer]) -> dict[str, Tensor]:
    """All that the optimisers remember, as tensors named by optimiser, parameter number and entry."""
    return {
        f"{index}.{number}.{entry}": value
        for index, optimizer in enumerate(optimizers)
        for number, entries in optimizer.state_dict()["state"].items()
        for entry, value in entries.items()
    }


def load_state(optimizers: list[Optimizer], tensors: dict[str, Tensor]) -> None:
    """Put back what `state` took out."""
    for index, optimizer in enumerate(optimizers):
        entries: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            at, number, entry = name.split(".")
            if int(at) == index:
                entries.setdefault(int(number), {})[entry] = value
        optimizer.load_state_dict({"state": entries, "param_groups": optimizer.state_dict()["param_groups"]})
