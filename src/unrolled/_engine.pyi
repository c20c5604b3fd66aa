"""The compiled recurrent engine (csrc/bind.cpp). Shapes are those of csrc/unrolled.h; float32, C-contiguous.

Arrays may be NumPy's or torch's (DLPack, no gradient required). Every function writes its last arguments in
full (those that are None are not wanted) and returns nothing; a wrong shape raises `ValueError`, a wrong dtype or
layout `TypeError`.
"""

from collections.abc import Sequence
from typing import Any

Array = Any

def lstm_forward(
    x: Array,
    symbols: Array | None,
    weight_ih: Array | None,
    bias_ih: Array | None,
    weight_hh: Array,
    bias_hh: Array | None,
    weight_hr: Array | None,
    peephole: Array | None,
    gain_ih: Array | None,
    gain_hh: Array | None,
    gain_c: Array | None,
    bias_c: Array | None,
    h0: Array | None,
    c0: Array | None,
    lengths: Array | None,
    resets: Array | None,
    reverse: bool,
    bfloat16: bool,
    dropout: Array | None,
    zoneout_h: Array | None,
    zoneout_c: Array | None,
    h: Array,
    c: Array,
    gates: Array | None,
    h_n: Array | None,
    c_n: Array | None,
) -> None: ...
def lstm_backward(
    x: Array,
    symbols: Array | None,
    weight_ih: Array | None,
    weight_hh: Array,
    weight_hr: Array | None,
    peephole: Array | None,
    gain_ih: Array | None,
    gain_hh: Array | None,
    gain_c: Array | None,
    bias_c: Array | None,
    h0: Array | None,
    c0: Array | None,
    lengths: Array | None,
    resets: Array | None,
    reverse: bool,
    bfloat16: bool,
    dropout: Array | None,
    zoneout_h: Array | None,
    zoneout_c: Array | None,
    h: Array,
    c: Array,
    gates: Array,
    grad_h: Array | None,
    grad_c: Array | None,
    grad_h_n: Array | None,
    grad_c_n: Array | None,
    grad_x: Array | None,
    grad_weight_ih: Array | None,
    grad_bias_ih: Array | None,
    grad_weight_hh: Array | None,
    grad_weight_hr: Array | None,
    grad_peephole: Array | None,
    grad_gain_ih: Array | None,
    grad_gain_hh: Array | None,
    grad_gain_c: Array | None,
    grad_bias_c: Array | None,
    grad_h0: Array | None,
    grad_c0: Array | None,
    continued: bool = False,
) -> None: ...
def gru_forward(
    x: Array,
    symbols: Array | None,
    weight_ih: Array | None,
    bias_ih: Array | None,
    weight_hh: Array,
    bias_hh: Array | None,
    h0: Array | None,
    lengths: Array | None,
    resets: Array | None,
    reverse: bool,
    bfloat16: bool,
    zoneout_h: Array | None,
    h: Array,
    gates: Array | None,
    h_n: Array | None,
) -> None: ...
def gru_backward(
    x: Array,
    symbols: Array | None,
    weight_ih: Array | None,
    weight_hh: Array,
    h0: Array | None,
    lengths: Array | None,
    resets: Array | None,
    reverse: bool,
    bfloat16: bool,
    zoneout_h: Array | None,
    h: Array,
    gates: Array,
    grad_h: Array | None,
    grad_h_n: Array | None,
    grad_x: Array | None,
    grad_weight_ih: Array | None,
    grad_bias_ih: Array | None,
    grad_weight_hh: Array | None,
    grad_bias_hh: Array | None,
    grad_h0: Array | None,
    continued: bool = False,
) -> None: ...
def rnn_forward(
    x: Array,
    symbols: Array | None,
    weight_ih: Array | None,
    bias_ih: Array | None,
    weight_hh: Array,
    bias_hh: Array | None,
    h0: Array | None,
    lengths: Array | None,
    resets: Array | None,
    reverse: bool,
    bfloat16: bool,
    relu: bool,
    h: Array,
    h_n: Array | None,
) -> None: ...
def rnn_backward(
    x: Array,
    symbols: Array | None,
    weight_ih: Array | None,
    weight_hh: Array,
    h0: Array | None,
    lengths: Array | None,
    resets: Array | None,
    reverse: bool,
    bfloat16: bool,
    relu: bool,
    h: Array,
    grad_h: Array | None,
    grad_h_n: Array | None,
    grad_x: Array | None,
    grad_weight_ih: Array | None,
    grad_bias_ih: Array | None,
    grad_weight_hh: Array | None,
    grad_h0: Array | None,
) -> None: ...
def activation(name: str, x: Array, y: Array) -> None:
    """y = exp, tanh or sigmoid of x [n], elementwise."""

def isa() -> str:
    """The instruction set in use."""

def isas() -> list[str]:
    """The instruction sets this machine can run, best first."""

def multiplies_bfloat16() -> bool:
    """Whether it has products of bfloat16 for sequences."""

def use_isa(isa: str) -> None:
    """Run another instruction set's kernels from now on; `ValueError` when this machine does not have it."""

def keep_freed_memory() -> None:
    """Keep freed memory in the process (glibc): for programs that train."""

def memory(shape: Sequence[int]) -> object:
    """Uninitialised float32 memory of the pool, as a DLPack capsule; freed, it is there for the next that fits."""

def release_memory() -> None:
    """Give the pool's free memory back to the system."""

def held_memory() -> int:
    """Bytes that the pool holds, in use and free: never more than were in use at one time."""

class Linear:
    """y [M, N] = x [M, K] times the transpose of weight [N, K], plus bias [N], packed once in a format of weights.

    The formats are float32, bfloat16 and int8.
    """

    def __init__(self, weight: Array, bias: Array | None, weights: str = "float32") -> None: ...
    def run(self, x: Array, y: Array) -> None: ...

class Stack:
    """Recurrent layers packed for inference, weights as for `Linear`.

    `cell` is lstm, lstm_coupled, gru, rnn_tanh or rnn_relu. A run takes NumPy arrays alone, and brings the state h
    [L, B, P] and c [L, B, H] up to date; P is `proj_size` where that is not 0, else H. With an `embedding` [V, D]
    inputs are symbols, int64 from 0 to V-1, without the last dimension D. A state may be a view of a larger array,
    if the numbers of a row are next to each other.
    """

    def __init__(
        self,
        cell: str,
        input_size: int,
        hidden_size: int,
        weights: str = "float32",
        embedding: Array | None = None,
        proj_size: int = 0,
    ) -> None: ...
    def add_layer(
        self,
        weight_ih: Array,
        weight_hh: Array,
        bias_ih: Array | None = None,
        bias_hh: Array | None = None,
        peephole: Array | None = None,
        zoneout_h: Array | None = None,
        zoneout_c: Array | None = None,
        weight_hr: Array | None = None,
        gain_ih: Array | None = None,
        gain_hh: Array | None = None,
        gain_c: Array | None = None,
        bias_c: Array | None = None,
    ) -> None: ...
    def run(self, x: Array, y: Array, h: Array, c: Array | None) -> None:
        """x [T, B, D] -> y [T, B, P]."""

    @property
    def cell(self) -> str: ...
    @property
    def input_size(self) -> int: ...
    @property
    def hidden_size(self) -> int: ...
    @property
    def output_size(self) -> int: ...
    @property
    def layers(self) -> int: ...
    @property
    def bytes(self) -> int:
        """How much a step reads of weights, biases and scales."""
    @property
    def threads(self) -> int:
        """How many threads a step of one row takes."""

class Steps:
    """Steps of a stack that carry a state of B rows, whose arrays it holds, as those of `Stack.run`."""

    def __init__(self, stack: Stack, h: Array, c: Array | None) -> None: ...
    def step(self, x: Array, out: Array | None = None) -> Array:
        """x [B, D] -> out [B, P], a new array where none is given."""
