"""RNN, LSTM and GRU layers that take the place of torch.nn's and add lengths and resets.

A layer is parameters, one input projection for all steps, and a sequence op for each direction. Constructor,
parameters and their names, initialisation and checkpoints come from `torch.nn.RNNBase`; outputs and gradients
agree with torch's to rounding. Which kernel computes an op is not known here.

T steps, B rows, D input features, H hidden units, L layers, P projected units.
"""

from typing import NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from unrolled import ops
from unrolled.errors import InputError

__all__ = ["GRU", "LSTM", "RNN"]

Tensors = tuple[Tensor, ...]
Device = torch.device | str | int | None
_INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
Input = TypeVar("Input", Tensor, PackedSequence)


class _Steps(NamedTuple):
    """Which steps a row takes and how, as every op takes them: see `unrolled.reference`."""

    lengths: Tensor | None
    resets: Tensor | None
    reverse: bool


class _Recurrent(torch.nn.RNNBase):
    """What the three layers share: the layouts of input, the checks, the stack of layers and directions."""

    def flatten_parameters(self) -> None:
        """Do nothing: kernels pack the weights themselves. Programs written for torch.nn call it."""

    def _state_widths(self) -> tuple[int, ...]:
        """The width of each state that the cell carries."""
        return (self.hidden_size,)

    def _sequence(self, x_gates: Tensor, suffix: str, initial: Tensors, steps: _Steps) -> Tensors:
        """Run a direction of a layer over x_gates [T,B,gates]; return every step's states [T,B,width]."""
        raise NotImplementedError

    def _parameter(self, name: str) -> Tensor:
        parameter: Tensor = getattr(self, name)
        return parameter

    def _input_bias(self, suffix: str) -> Tensor | None:
        """The biases that can be added before the recurrence, in one vector."""
        if not self.bias:
            return None
        return self._parameter(f"bias_ih{suffix}") + self._parameter(f"bias_hh{suffix}")

    def _forward(
        self, input: Input, initial: Tensors | None, lengths: Tensor | None, resets: Tensor | None
    ) -> tuple[Input, Tensors]:
        """Bring any layout of input to [T,B,D], run the stack, return the output in the input's layout."""
        name = type(self).__name__
        if isinstance(input, PackedSequence):
            return self._forward_packed(input, initial, lengths, resets)
        if not isinstance(input, Tensor):
            raise TypeError(f"{name}: input must be a Tensor or a PackedSequence, got {type(input).__name__}")
        if input.dim() not in (2, 3):
            raise ValueError(f"{name}: Expected input to be 2D or 3D, got {input.dim()}D instead")
        _check_dims(initial, input.dim())
        if input.dim() == 2:
            lengths, resets = _checked_masks(lengths, resets, (), tuple(input.shape[:1]), input.device)
            output, final = self._stack(
                input[:, None],
                None if initial is None else tuple(state[:, None] for state in initial),
                None if lengths is None else lengths[None],
                None if resets is None else resets[:, None],
            )
            return output[:, 0], tuple(state[:, 0] for state in final)
        rows = input.shape[0 if self.batch_first else 1]
        lengths, resets = _checked_masks(lengths, resets, (rows,), tuple(input.shape[:2]), input.device)
        if not self.batch_first:
            return self._stack(input, initial, lengths, resets)
        resets = None if resets is None else resets.transpose(0, 1)
        output, final = self._stack(input.transpose(0, 1).contiguous(), initial, lengths, resets)
        return output.transpose(0, 1), final

    def _forward_packed(
        self, input: PackedSequence, initial: Tensors | None, lengths: Tensor | None, resets: Tensor | None
    ) -> tuple[PackedSequence, Tensors]:
        """Run the rows padded, in their order before packing, which is that of states and resets."""
        if lengths is not None:
            raise InputError("lengths cannot be given with a PackedSequence, which has its own")
        if input.data.dim() != 2:
            raise RuntimeError(f"input must have 2 dimensions, got {input.data.dim()}")
        _check_dims(initial, 3)
        x, lengths = pad_packed_sequence(input)
        steps, rows, _ = x.shape
        resets_shape = (rows, steps) if self.batch_first else (steps, rows)
        lengths_there, resets = _checked_masks(lengths, resets, (rows,), resets_shape, x.device)
        if resets is not None and self.batch_first:
            resets = resets.transpose(0, 1)
        output, final = self._stack(x, initial, lengths_there, resets)
        if input.sorted_indices is not None:
            output = output.index_select(1, input.sorted_indices)
            lengths = lengths[input.sorted_indices.cpu()]
        packed = pack_padded_sequence(output, lengths)
        indices = (input.sorted_indices, input.unsorted_indices)
        return PackedSequence(packed.data, input.batch_sizes, *indices), final

    def _stack(
        self, x: Tensor, initial: Tensors | None, lengths: Tensor | None, resets: Tensor | None
    ) -> tuple[Tensor, Tensors]:
        """Run all layers over x [T,B,D]; return the output and the final states [L*directions,B,width]."""
        self._check_input(x)
        steps, rows, _ = x.shape
        directions = 2 if self.bidirectional else 1
        shapes = [(self.num_layers * directions, rows, width) for width in self._state_widths()]
        if initial is None:
            initial = tuple(x.new_zeros(shape) for shape in shapes)
        _check_states(initial, shapes, x)
        if lengths is not None:
            # What stands past a row's length, NaN too, must not reach weight_ih's gradient as 0 * NaN.
            past = torch.arange(steps, device=x.device)[:, None] >= lengths
            x = x.masked_fill(past[:, :, None], 0)
        finals: list[Tensors] = []
        for layer in range(self.num_layers):
            outputs = []
            for reverse in (False, True)[:directions]:
                suffix = f"_l{layer}_reverse" if reverse else f"_l{layer}"
                before = tuple(state[len(finals)] for state in initial)
                x_gates = F.linear(x, self._parameter(f"weight_ih{suffix}"), self._input_bias(suffix))
                states = self._sequence(x_gates, suffix, before, _Steps(lengths, resets, reverse))
                outputs.append(states[0])
                finals.append(tuple(_final(*pair, lengths, reverse) for pair in zip(states, before, strict=True)))
            x = torch.cat(outputs, dim=-1) if self.bidirectional else outputs[0]
            if layer < self.num_layers - 1:
                x = F.dropout(x, self.dropout, self.training)
        return x, tuple(torch.stack(state) for state in zip(*finals, strict=True))

    def _check_input(self, x: Tensor) -> None:
        dtype = self._parameter("weight_ih_l0").dtype
        if x.dtype != dtype and not torch.is_autocast_enabled(x.device.type):
            raise ValueError(
                f"{type(self).__name__} input dtype ({x.dtype}) does not match weight dtype ({dtype}). "
                f"Convert input: input.to({dtype}), or convert model: model.to({x.dtype})"
            )
        if x.shape[2] != self.input_size:
            raise RuntimeError(
                f"input.size(-1) must be equal to input_size. Expected {self.input_size}, got {x.shape[2]}"
            )
        if x.shape[0] == 0:
            raise RuntimeError(f"Expected sequence length to be larger than 0 in {type(self).__name__}")


def _check_dims(states: Tensors | None, dims: int) -> None:
    for state in states or ():
        if state.dim() != dims:
            kind = "batched 3-D" if dims == 3 else "unbatched 2-D"
            raise RuntimeError(f"For {kind} input, hx should also be {dims}-D but got a {state.dim()}-D tensor")


def _check_states(states: Tensors, shapes: list[tuple[int, int, int]], x: Tensor) -> None:
    for name, state, shape in zip(("h_0", "c_0"), states, shapes, strict=False):
        if state.shape != shape:
            raise RuntimeError(f"Expected {name} of size {shape}, got {tuple(state.shape)}")
        if state.device != x.device:
            raise RuntimeError(f"Expected {name} on {x.device} as input is, got {state.device}")
        if state.dtype != x.dtype and not torch.is_autocast_enabled(x.device.type):
            raise RuntimeError(f"Expected {name} of dtype {x.dtype} as input is, got {state.dtype}")


def _checked_masks(
    lengths: Tensor | None,
    resets: Tensor | None,
    lengths_shape: tuple[int, ...],
    resets_shape: tuple[int, ...],
    device: torch.device,
) -> tuple[Tensor | None, Tensor | None]:
    """The two on the input's device, with lengths as int64."""
    if lengths is not None:
        whole = isinstance(lengths, Tensor) and lengths.dtype in _INTEGERS
        if not whole or lengths.shape != lengths_shape:
            raise InputError(f"lengths must be integers of shape {lengths_shape}, got {_described(lengths)}")
        lengths = lengths.to(device, torch.int64)
    if resets is not None:
        boolean = isinstance(resets, Tensor) and resets.dtype == torch.bool
        if not boolean or resets.shape != resets_shape:
            raise InputError(f"resets must be bool of shape {resets_shape}, got {_described(resets)}")
        resets = resets.to(device)
    return lengths, resets


def _described(value: object) -> str:
    if not isinstance(value, Tensor):
        return f"a {type(value).__name__}"
    return f"{str(value.dtype).removeprefix('torch.')} of shape {tuple(value.shape)}"


def _final(sequence: Tensor, initial: Tensor, lengths: Tensor | None, reverse: bool) -> Tensor:
    """A state [B,width] after the last step that each row consumes; the initial one for a row of length 0."""
    if lengths is None:
        return sequence[0 if reverse else -1]
    last = torch.zeros_like(lengths) if reverse else (lengths - 1).clamp(min=0)
    at_last = sequence[last, torch.arange(len(lengths), device=lengths.device)]
    return torch.where((lengths > 0)[:, None], at_last, initial)


class _HiddenOnly(_Recurrent):
    """A layer whose state is h alone."""

    def forward(
        self,
        input: Input,
        hx: Tensor | None = None,
        *,
        lengths: Tensor | None = None,
        resets: Tensor | None = None,
    ) -> tuple[Input, Tensor]:
        """Run over input from the state hx.

        Args:
            input: [T,B,D]; [B,T,D] with batch_first; [T,D] for a single row; or a PackedSequence.
            hx: the state before the first step, [L*directions,B,H]; zeros by default.
            lengths: [B] integers from 0 to T in any order: row b has lengths[b] steps. Past them nothing is
                read and the output is 0; the final state is the one after the row's own last step.
            resets: [T,B] bool, [B,T] with batch_first: where true, the row's state is zero before it consumes
                the step, and no gradient crosses.

        Returns:
            The output [T,B,directions*H] in input's layout, and the final state in hx's.

        Raises:
            InputError: lengths or resets do not fit; a ValueError.
            ValueError: input has the wrong dtype or number of dimensions.
            RuntimeError: input or hx has a wrong size.

        """
        if hx is not None and not isinstance(hx, Tensor):
            raise TypeError(f"{type(self).__name__}: hx must be a Tensor, got {type(hx).__name__}")
        output, (h_n,) = self._forward(input, None if hx is None else (hx,), lengths, resets)
        return output, h_n


class RNN(_HiddenOnly):
    """The standard (Elman) RNN of `unrolled.cells.rnn_step`, in place of `torch.nn.RNN`.

    Arguments, parameters and inputs are those of torch.nn.RNN, defaults included; `nonlinearity` is "tanh" or
    "relu"; `forward` adds lengths and resets.

    >>> layer = RNN(3, 5)
    >>> output, h_n = layer(torch.zeros(7, 2, 3), lengths=torch.tensor([7, 4]))
    >>> output.shape, h_n.shape
    (torch.Size([7, 2, 5]), torch.Size([1, 2, 5]))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"Unknown nonlinearity '{nonlinearity}'. Select from 'tanh' or 'relu'.")
        mode = f"RNN_{nonlinearity.upper()}"
        super().__init__(
            mode,
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            0,
            device,
            dtype,
        )
        self.nonlinearity = nonlinearity

    def _sequence(self, x_gates: Tensor, suffix: str, initial: Tensors, steps: _Steps) -> Tensors:
        weight_hh = self._parameter(f"weight_hh{suffix}")
        relu = self.nonlinearity == "relu"
        (h0,) = initial
        return (ops.rnn(x_gates, weight_hh, h0, *steps, relu),)


class GRU(_HiddenOnly):
    """The gated recurrent unit of `unrolled.cells.gru_step`, in place of `torch.nn.GRU`.

    Arguments, parameters and inputs are those of torch.nn.GRU, defaults included; `forward` adds lengths and
    resets.

    >>> layer = GRU(3, 5, batch_first=True)
    >>> output, h_n = layer(torch.zeros(2, 7, 3), resets=torch.zeros(2, 7, dtype=torch.bool))
    >>> output.shape, h_n.shape
    (torch.Size([2, 7, 5]), torch.Size([1, 2, 5]))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            "GRU",
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            0,
            device,
            dtype,
        )

    def _input_bias(self, suffix: str) -> Tensor | None:
        """All but the recurrent bias of n, which r multiplies."""
        if not self.bias:
            return None
        bias_hr_hz = self._parameter(f"bias_hh{suffix}")[: 2 * self.hidden_size]
        return self._parameter(f"bias_ih{suffix}") + F.pad(bias_hr_hz, (0, self.hidden_size))

    def _sequence(self, x_gates: Tensor, suffix: str, initial: Tensors, steps: _Steps) -> Tensors:
        weight_hh = self._parameter(f"weight_hh{suffix}")
        if self.bias:
            bias_hn = self._parameter(f"bias_hh{suffix}")[2 * self.hidden_size :]
        else:
            bias_hn = weight_hh.new_zeros(self.hidden_size)
        (h0,) = initial
        h, _ = ops.gru(x_gates, weight_hh, bias_hn, h0, *steps)
        return (h,)


class LSTM(_Recurrent):
    """The long short-term memory of `unrolled.cells.lstm_step`, in place of `torch.nn.LSTM`.

    Arguments, parameters and inputs are those of torch.nn.LSTM, defaults included. With `proj_size` no kernel
    serves it yet but the reference, which is slow: the first run warns.

    >>> layer = LSTM(3, 5, bidirectional=True)
    >>> output, (h_n, c_n) = layer(torch.zeros(7, 2, 3))
    >>> output.shape, c_n.shape
    (torch.Size([7, 2, 10]), torch.Size([2, 2, 5]))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            "LSTM",
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            proj_size,
            device,
            dtype,
        )

    def forward(
        self,
        input: Input,
        hx: tuple[Tensor, Tensor] | None = None,
        *,
        lengths: Tensor | None = None,
        resets: Tensor | None = None,
    ) -> tuple[Input, tuple[Tensor, Tensor]]:
        """Run over input from hx = (h_0, c_0); return the output and the final (h_n, c_n).

        Arguments and errors are those of `RNN.forward`. With proj_size P, the output and h are P wide.
        """
        if hx is not None and not (isinstance(hx, tuple | list) and len(hx) == 2):
            raise TypeError(f"LSTM: hx must be a pair (h_0, c_0), got {type(hx).__name__}")
        output, (h_n, c_n) = self._forward(input, hx, lengths, resets)
        return output, (h_n, c_n)

    def _state_widths(self) -> tuple[int, ...]:
        return (self.proj_size or self.hidden_size, self.hidden_size)

    def _sequence(self, x_gates: Tensor, suffix: str, initial: Tensors, steps: _Steps) -> Tensors:
        weight_hh = self._parameter(f"weight_hh{suffix}")
        h0, c0 = initial
        if self.proj_size:
            weight_hr = self._parameter(f"weight_hr{suffix}")
            h, c, _ = ops.lstm_projected(x_gates, weight_hh, weight_hr, h0, c0, *steps)
        else:
            h, c, _ = ops.lstm(x_gates, weight_hh, h0, c0, *steps)
        return h, c
