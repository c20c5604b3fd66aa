"""A network of timm, which someone has trained on pictures, as the front end of a caption model."""

from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from unrolled.errors import InputError
from unrolled.extras import extra

__all__ = ["Backbone"]

UNLIKELY = 0x5EED  # a seed: what has its random numbers was not in the file
# What timm, torch and safetensors raise where a name, or a file of weights, is none.
UNFIT = (RuntimeError, KeyError, AttributeError, ValueError, OSError, EOFError, TypeError, SafetensorError)
COARSEST = 16  # pixels across a place of the grid: of a network's stages, the last that is no coarser is looked at


class Backbone(nn.Module):
    """The stage of timm's network `name` that sees a picture as a grid. It is never trained, nor in training mode.

    `weights` is a file that timm can read (safetensors or a checkpoint of torch); without it the weights are
    random, until a state dict is loaded. Pictures have `channels` 1 or 3; the first convolution of a network for
    RGB is summed over colours for grey ones (by timm). Raises `InputError` for a name that timm does not know, a
    network that gives no grid, and weights that do not fit.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, name: str, channels: int, weights: str | None = None) -> None:
        super().__init__()
        if weights is not None and not Path(weights).is_file():
            raise InputError(f"{weights} is not a file; expected the weights of {name}.")
        made = _made(name, channels)
        coarse = made.feature_info.reduction()
        if min(coarse) > COARSEST:
            raise InputError(f"{name} has no stage of at most {COARSEST} pixels a place, but of {coarse}.")
        stage = max(number for number, pixels in enumerate(coarse) if pixels <= COARSEST)
        if weights is None:
            self.network = _made(name, channels, stage=stage)
        else:
            self.network = _loaded(name, channels, weights, stage)
        seen = _timm().get_pretrained_cfg(name)  # what the network was trained on
        mean, deviation = (torch.tensor(part)[:, None, None] for part in (seen.mean, seen.std))
        if channels == 1:
            mean, deviation = mean.mean(0, keepdim=True), deviation.mean(0, keepdim=True)
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("deviation", deviation, persistent=False)
        self.requires_grad_(False)
        self.train(False)

    def sizes(self, side: int) -> tuple[dict[str, tuple[int, ...]], int, int]:
        """Its tensors, and what it makes of pictures of `side` pixels: places across and numbers of each."""
        tensors = {name: tuple(value.shape) for name, value in self.state_dict().items()}
        seen = self(torch.zeros(1, len(self.mean), side, side))
        return tensors, int(seen.shape[-1]), int(seen.shape[1])

    def train(self, mode: bool = True) -> "Backbone":
        """Stay as it is: a network that is not trained keeps its averages."""
        return super().train(False)

    def forward(self, pictures: Tensor) -> Tensor:
        """What it sees in pictures [B, channels, S, S] from 0 to 1: [B, memory, side, side]."""
        seen: Tensor = self.network((pictures - self.mean) / self.deviation)[0]
        return seen


def _loaded(name: str, channels: int, weights: str, stage: int) -> Any:
    """The network with the weights of the file, which must have all of them: timm is silent about the rest."""
    with torch.random.fork_rng():
        torch.manual_seed(UNLIKELY)
        random = _made(name, channels, stage=stage).state_dict()
        torch.manual_seed(UNLIKELY)
        network = _made(name, channels, weights, stage)
    for tensor, value in network.state_dict().items():
        if torch.equal(value, random[tensor]) and (value != value.flatten()[0]).any():
            raise InputError(f"{weights} does not hold the weights of {name}: {tensor} is missing.")
    return network


def _made(name: str, channels: int, weights: str | None = None, stage: int | None = None) -> Any:
    """timm's network, its stage `stage` or all of them."""
    timm = _timm()
    given: dict[str, Any] = {"features_only": True, "in_chans": channels}
    if stage is not None:
        given["out_indices"] = (stage,)
    if weights is not None:
        given |= {"pretrained": True, "pretrained_cfg_overlay": {"file": weights}}
    try:
        return timm.create_model(name, **given)
    except UNFIT as error:
        what = f"{weights} does not hold the weights of {name}" if weights else f"timm cannot make {name!r}"
        reason, *_ = str(error).splitlines() or [type(error).__name__]  # of an empty file nothing is said
        raise InputError(f"{what}: {reason.rstrip('.:')}.") from error


def _timm() -> ModuleType:
    with extra("timm", "a backbone needs timm and torchvision"):
        import timm
    library: ModuleType = timm
    return library
