"""Muon: each gate's step has like singular values; for one gate it is torch's."""

import math
from typing import Any

import pytest
import torch

from unrolled import muon, optimizers
from unrolled.architecture import CaptionArchitecture
from unrolled.models.caption import CaptionNetwork
from unrolled.models.layers import Head, Layers
from unrolled.muon import Muon, orthogonalized
from unrolled.recipe import TrainOptions


@pytest.mark.parametrize("shape", [(1, 8, 8), (4, 32, 32), (4, 64, 16), (3, 17, 65), (1, 1, 9), (2, 130, 130)])
def test_singular_values_come_near_one_and_directions_stay(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    blocks = torch.randn(shape) * torch.tensor([1e-3, 1.0, 1e3, 7.0])[: shape[0], None, None]
    made = orthogonalized(blocks)
    u, _, v = torch.linalg.svd(blocks, full_matrices=False)
    inside = u.mT @ made @ v.mT  # diagonal where the singular vectors are those of the blocks
    values = torch.linalg.svdvals(made)
    assert values.max() < 1.3
    assert torch.quantile(values, 0.1) > 0.5
    assert (inside - torch.diag_embed(inside.diagonal(dim1=1, dim2=2))).abs().max() < 0.1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_large_matrices_too_in_whatever_is_quickest(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    monkeypatch.setattr(muon, "quickest", lambda device: dtype)
    values = torch.linalg.svdvals(orthogonalized(torch.randn(2, 160, 144)))
    assert values.dtype == torch.float32
    assert values.max() < 1.3
    assert torch.quantile(values, 0.1) > 0.5


@pytest.mark.parametrize("columns", [16, 144])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_large_enough_comes_near_one(
    columns: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    monkeypatch.setattr(muon, "quickest", lambda device: dtype)
    u, _, v = torch.linalg.svd(torch.randn(1, 160, columns), full_matrices=False)
    values = torch.logspace(0, math.log10(0.01), columns)
    found = (u.mT @ orthogonalized(u * values @ v) @ v.mT).diagonal(dim1=1, dim2=2)
    large = values > 0.0102 * values.pow(4).sum() ** 0.25
    assert found[0, large].min() > 0.7 and found.max() < 1.3


@pytest.mark.parametrize("columns", [16, 144])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scale", [1e-5, 1.0, 1e5])
def test_a_matrix_of_rank_one_is_no_more_than_it_may_be(
    columns: int, dtype: torch.dtype, scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    monkeypatch.setattr(muon, "quickest", lambda device: dtype)
    made = orthogonalized(scale * torch.randn(3, 160, 1) * torch.randn(3, 1, columns))
    assert (torch.linalg.svdvals(made)[:, 0] - 1).abs().max() < 0.3


@pytest.mark.parametrize("columns", [7, 30])
def test_each_gate_moves_as_if_it_were_alone(columns: int) -> None:
    torch.manual_seed(0)
    whole = torch.nn.Parameter(torch.randn(4 * 12, columns))
    parts = [torch.nn.Parameter(part.clone()) for part in whole.detach().chunk(4)]
    together, alone = Muon([whole], gates=4), Muon(parts)
    for _ in range(3):
        whole.grad = torch.randn_like(whole)
        for part, gradient in zip(parts, whole.grad.chunk(4), strict=True):
            part.grad = gradient.clone()
        together.step()
        alone.step()
    assert torch.allclose(whole, torch.cat([part.detach() for part in parts]), atol=1e-3)
    assert not torch.allclose(whole, torch.zeros_like(whole))


def test_one_gate_is_torchs_muon_where_both_find_the_nearest_orthogonal_matrix(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def nearest(blocks: torch.Tensor) -> torch.Tensor:
        u, _, v = torch.linalg.svd(blocks, full_matrices=False)
        return torch.Tensor(u @ v)

    torch.manual_seed(0)
    monkeypatch.setattr(muon, "orthogonalized", nearest)
    ours, theirs = (torch.nn.Parameter(torch.ones(24, 10)) for _ in range(2))
    until_it_is_found: dict[str, Any] = {"ns_coefficients": (1.875, -1.25, 0.375), "ns_steps": 20}
    optimizers = [
        Muon([ours], lr=0.02, weight_decay=0.1),
        torch.optim.Muon([theirs], lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw", **until_it_is_found),
    ]
    for _ in range(4):
        ours.grad = torch.randn_like(ours)
        theirs.grad = ours.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    moved = (theirs - 1).abs().mean()
    assert (ours - theirs).abs().mean() < 0.01 * moved  # theirs iterates in bfloat16


def test_a_step_has_the_root_mean_square_of_adamws() -> None:
    torch.manual_seed(0)
    parameter = torch.nn.Parameter(torch.zeros(4 * 64, 64))
    parameter.grad = torch.randn_like(parameter)
    Muon([parameter], lr=1.0, weight_decay=0.0, gates=4).step()
    assert math.isclose(parameter.square().mean().sqrt().item(), 0.2, rel_tol=0.2)


def test_a_parameter_without_a_gradient_stays() -> None:
    parameter = torch.nn.Parameter(torch.ones(4, 4))
    Muon([parameter]).step()
    assert torch.equal(parameter, torch.ones(4, 4))


def test_a_gradient_of_zeros_only_decays() -> None:
    parameter = torch.nn.Parameter(torch.ones(4, 4))
    parameter.grad = torch.zeros(4, 4)
    Muon([parameter], lr=0.5, weight_decay=0.1).step()
    assert torch.allclose(parameter, torch.full((4, 4), 0.95))


def test_a_closure_is_called_and_its_loss_given_back() -> None:
    parameter = torch.nn.Parameter(torch.ones(3, 2))

    def closure() -> float:
        parameter.grad = torch.ones_like(parameter)
        return 7.0

    assert Muon([parameter]).step(closure) == 7.0
    assert not torch.equal(parameter, torch.ones(3, 2))


def test_a_convolution_moves_as_the_matrix_of_its_filters() -> None:
    torch.manual_seed(0)
    filters = torch.nn.Parameter(torch.randn(8, 3, 2, 2))
    matrix = torch.nn.Parameter(filters.detach().flatten(1).clone())
    filters.grad = torch.randn_like(filters)
    matrix.grad = filters.grad.flatten(1)
    for parameter in (filters, matrix):
        Muon([parameter]).step()
    assert torch.equal(filters.flatten(1), matrix)


def test_muon_moves_the_matrices_inside_and_adamw_the_rest() -> None:
    given: dict[str, Any] = {"backbone": "", "backbone_tensors": {}, "backbone_side": 0, "backbone_memory": 0}
    sizes = CaptionArchitecture(channels=1, size=8, width=4, cell="gru", symbols=5, embedding=6, hidden=7, **given)
    network = CaptionNetwork(sizes)
    adamw, muon = optimizers.make(network, TrainOptions())
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    gates = {names[id(p)]: group["gates"] for group in muon.param_groups for p in group["params"]}
    assert gates["decoder.recurrent.0.weight_hh_l0"] == 3 and gates["decoder.keys.weight"] == 1
    assert gates["grid.0.first.weight"] == 1
    rest = {names[id(p)] for group in adamw.param_groups for p in group["params"]}
    assert {"decoder.embedding.weight", "decoder.bias", "position", "grid.0.first_norm.weight"} <= rest
    assert not rest & set(gates) and rest | set(gates) == set(names.values())


def test_each_optimiser_has_its_part_of_the_rate_and_biases_are_not_decayed() -> None:
    network = torch.nn.ModuleDict({"inner": torch.nn.Linear(4, 4), "head": Head(4, 2)})
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    made = optimizers.make(network, TrainOptions(weight_decay=0.5))
    optimizers.set_rate(made, 0.1)
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    for optimizer in made:
        optimizer.step()
    for name, kept in (("inner.weight", 0.95), ("head.weight", 0.98), ("inner.bias", 1.0), ("head.bias", 1.0)):
        torch.testing.assert_close(network.get_parameter(name), kept * before[name])


def test_muon_moves_a_projection_as_one_matrix() -> None:
    network = Layers("lstm-proj0.5", 3, 8)
    _, muon = optimizers.make(network, TrainOptions())
    gates = {id(p): group["gates"] for group in muon.param_groups for p in group["params"]}
    names = {name.partition(".")[2]: gates.get(id(p), 0) for name, p in network.named_parameters()}
    assert (names["weight_hh_l0"], names["weight_hr_l0"], names["bias_ih_l0"]) == (4, 1, 0)


def test_adamw_moves_heads() -> None:
    network = torch.nn.ModuleDict({"inner": torch.nn.Linear(4, 4), "head": Head(4, 2)})
    adamw, muon = optimizers.make(network, TrainOptions())
    assert [p for group in muon.param_groups for p in group["params"]] == [network["inner"].weight]
    assert any(p is network["head"].weight for group in adamw.param_groups for p in group["params"])
