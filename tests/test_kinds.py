"""Cells by name: what a name says, what its layer has, and what is no name."""

import re

import pytest

from small import CELLS
from unrolled import InputError, kinds
from unrolled.models.layers import LAYERS
from unrolled.settings import fill
from unrolled.tasks.text import TextOptions


@pytest.mark.parametrize(
    ("name", "base", "variants"),
    [
        ("rnn", "rnn", {}),
        ("lstm-peephole-coupled", "lstm", {"peephole": True, "coupled": True}),
        ("lstm-recurrent_dropout0.25", "lstm", {"recurrent_dropout": 0.25}),
        ("lstm-proj0.5-coupled", "lstm", {"proj": 0.5, "coupled": True}),
        ("gru-zoneout0.1-weight_drop0.5", "gru", {"zoneout": 0.1, "weight_drop": 0.5}),
    ],
)
def test_a_name_says_the_base_and_the_variants(name: str, base: str, variants: dict[str, object]) -> None:
    assert kinds.named(name) == kinds.Kind(base, variants)


def test_a_projection_is_narrower_than_what_it_is_of() -> None:
    kind = kinds.named("lstm-proj0.9")
    assert [kind.width(hidden) for hidden in (2, 3, 10, 19)] == [1, 2, 9, 17]
    with pytest.raises(InputError, match="hidden is 1, expected at least 2 for a projection"):
        kind.width(1)


@pytest.mark.parametrize("name", CELLS)
def test_the_tensors_of_a_name_are_those_of_its_layer(name: str) -> None:
    kind = kinds.named(name)
    layer = LAYERS[kind.base](3, 5, **kind.arguments(5))
    shapes = {name.removesuffix("_l0"): tuple(one.shape) for name, one in layer.named_parameters()}
    assert dict(kind.tensors(3, 5)) == shapes
    assert kind.parameters(3, 5) == sum(one.numel() for one in layer.parameters())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("lsmt", "one of rnn, gru, lstm, or a variant of one (did you mean 'lstm'?)"),
        ("", "one of rnn, gru, lstm, or a variant of one"),
        (
            "lstm-",
            "variants of peephole, coupled, layer_norm, recurrent_dropoutP, zoneoutP, weight_dropP, projP",
        ),
        ("lstm-peepole", "(did you mean 'peephole'?)"),
        ("lstm-zoneout", "(P: a part of 1, as 0.1) (did you mean 'zoneoutP'?)"),
        ("lstm-zoneout1.5", "lstm with variants of"),
        ("rnn-peephole", "rnn with variants of weight_dropP"),
        ("gru-coupled", "gru with variants of zoneoutP, weight_dropP"),
        ("lstm-zoneout0.1-zoneout0.2", "each variant once"),
    ],
)
def test_what_is_no_cell_is_refused_with_what_is(name: str, expected: str) -> None:
    with pytest.raises(InputError, match=re.escape(expected)):
        kinds.named(name)
    with pytest.raises(InputError, match=re.escape(f"settings: cell is {name!r}, expected")):
        fill([TextOptions], {"cell": name})
