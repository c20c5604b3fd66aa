"""What recurrent layers share: layouts of input, the stack of layers and directions, traces.

`unrolled.nn` has the layers. T steps, B rows, D input features, H hidden units, L layers, P projected units.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from unrolled.errors import InputError
from unrolled.floats import Floats
from unrolled.nn import gpu
from unrolled.nn.arguments import (
    Input,
    agree,
    check_dims,
    check_states,
    checked_masks,
    checked_symbols,
    is_dense,
    laid_out,
    unknown_symbol,
)
from unrolled.nn.foreign import by_torch, to_onnx, torchs
from unrolled.nn.init import chrono
from unrolled.nn.packed_sequence import run_packed
from unrolled.nn.variants import LayerVariant
from unrolled.ops.cells import LayerNorm
from unrolled.ops.composite import needs_composite
from unrolled.ops.dispatch import Outputs, multiplies_bfloat16, served_by_torch, wide, widens
from unrolled.ops.library import under_autocast
from unrolled.rates import has_matrix_units
from unrolled.stepper import Stepper, packed

__all__ = ["Products", "Recurrent", "Steps", "Tensors", "Trace"]

MATRIX_UNITS = has_matrix_units()  # as this was imported: torch.compile cannot trace the call
Tensors = tuple[Tensor, ...]


class Steps(NamedTuple):
    """Which steps a row takes and how, as every op takes them: see `unrolled.ops.reference`."""

    lengths: Tensor | None
    resets: Tensor | None
    reverse: bool
    bfloat16: bool


class Products(NamedTuple):
    """What the gates' sums are made of, as every op takes it: see `unrolled.ops`."""

    x: Tensor
    symbols: Tensor | None
    weight_ih: Tensor | None
    bias_ih: Tensor | None
    weight_hh: Tensor
    bias_hh: Tensor | None

    @property
    def steps(self) -> int:
        """T."""
        return (self.x if self.symbols is None else self.symbols).shape[0]


class Trace(NamedTuple):
    """All that one direction of one layer computed, in the layout of the layer's input.

    `h` is every step's hidden state [T,B,H] ([T,B,P] with a projection); `c` an LSTM's cell state [T,B,H], else
    None; `gates` after activation are i, f, g, o of an LSTM or r, z, n and hn = W_hn h + b_hn of a GRU, [T,B,4H],
    and None for an RNN. h and c are differentiable, gates are not. All are 0 past a row's length.
    """

    h: Tensor
    c: Tensor | None
    gates: Tensor | None

    def laid_out(self, change: Callable[[Tensor], Tensor]) -> "Trace":
        """The same with every tensor changed alike."""
        h, c, gates = (None if part is None else change(part) for part in self)
        assert h is not None
        return Trace(h, c, gates)


class Recurrent(torch.nn.RNNBase):
    """A stack of recurrent layers in one or both directions; a subclass has the equations.

    `recompute` is how many steps apart states are kept for the way back; None: all that it needs is kept.
    """

    recompute: int | None = None
    longest_gap: int | None = None  # that the gates were made for

    def reset_parameters(self) -> None:
        """Draw all parameters anew, as the constructor draws them."""
        super().reset_parameters()
        for name, parameter in self.named_parameters():
            if name.startswith("gain_"):
                torch.nn.init.ones_(parameter)
            elif name.startswith("bias_c_"):
                torch.nn.init.zeros_(parameter)
        if self.longest_gap is not None:
            chrono(self, self.longest_gap)

    def _initialise(self, init: str, longest_gap: int | None) -> None:
        if init not in ("uniform", "chrono"):
            raise InputError(f"init is {init!r}, expected 'uniform' or 'chrono'")
        if init == "uniform" and longest_gap is not None:
            raise InputError('longest_gap is only for init="chrono"')
        if init == "chrono":
            if longest_gap is None:
                raise InputError('init="chrono" needs longest_gap, the longest gap to be expected, in steps')
            chrono(self, longest_gap)
        self.longest_gap = longest_gap

    def _set_recompute(self, recompute: int | None) -> None:
        if recompute is not None and (not isinstance(recompute, int) or recompute < 2):
            raise InputError(f"recompute is {recompute!r}, expected a whole number of steps from 2, or None")
        self.recompute = recompute

    variant: LayerVariant

    def extra_repr(self) -> str:
        """What torch's says, and what the constructor was told beyond what torch's takes."""
        of_states = [getattr(self.variant, f"zoneout_{name}") for name in "hc"[: len(self._state_widths())]]
        told = {name: value for name, value in vars(self.variant).items() if not name.startswith("zoneout")}
        told["zoneout"] = of_states[0] if len(set(of_states)) == 1 else tuple(of_states)
        told["init"] = None if self.longest_gap is None else "chrono"
        told |= {"longest_gap": self.longest_gap, "recompute": self.recompute}
        return ", ".join([super().extra_repr(), *(f"{name}={value!r}" for name, value in told.items() if value)])

    def flatten_parameters(self) -> None:
        """Let a plain layer's weights lie as cuDNN wants them; the engine packs its own."""
        if "variant" not in vars(self) or self.variant.plain(training=False):
            super().flatten_parameters()

    def __prepare_scriptable__(self) -> torch.nn.RNNBase:
        """Torch's layer on the same parameters: torch.jit.script compiles it, and leaves it in the model."""
        if "_sequence" not in vars(type(self)):
            raise InputError(
                f"TorchScript cannot hold a {type(self).__name__}, expected an LSTM, GRU or RNN itself"
            )
        if not self.variant.plain(training=True):
            raise InputError(f"TorchScript has torch's layers alone, which are no such variants: {self}")
        return torchs(self)

    def stepper(self, batch: int = 1, weights: str = "float32") -> Stepper:
        """This layer to be stepped from outside without torch: a copy of its weights, packed, and a zero state.

        `batch` is how many rows are stepped together; `weights` the format of the packed weights, "float32",
        "bfloat16" or "int8". Later changes of the parameters do not reach it, and there is no dropout. Raises
        `InputError` for a bidirectional layer and for parameters that float32 does not hold, as float64.
        """
        if self.bidirectional:
            raise InputError("stepper: a bidirectional layer reads the end first, expected bidirectional=False")
        cell = "lstm_coupled" if self.variant.coupled else self.mode.lower()
        layers = [self._packed_layer(f"_l{layer}") for layer in range(self.num_layers)]
        return Stepper(
            packed(cell, self.input_size, self.hidden_size, layers, weights, proj_size=self.proj_size), batch
        )

    def _packed_layer(self, suffix: str) -> dict[str, Floats]:
        """A layer as `unrolled.stepper.packed` takes it."""
        names = ["weight_ih", "weight_hh"]
        names += ["bias_ih", "bias_hh"] if self.bias else []
        names += ["weight_hr"] if self.proj_size else []
        names += ["peephole"] if self.variant.peephole else []
        names += LayerNorm._fields if self.variant.layer_norm else []
        # By name, for a parameter may stand in several places, or be made of others (torch.nn.utils.parametrize).
        learned: dict[str, Floats] = {}
        for name in names:
            parameter = self._parameter(f"{name}{suffix}")
            if parameter.dtype != torch.float32:
                raise InputError(f"stepper: {name}{suffix} is {parameter.dtype}, expected torch.float32")
            learned[name] = parameter.detach().cpu().contiguous().numpy()
        for name, width in zip("hc", self._state_widths(), strict=False):
            if part := getattr(self.variant, f"zoneout_{name}"):
                learned[f"zoneout_{name}"] = np.full(width, part, np.float32)
        return learned

    def _state_widths(self) -> tuple[int, ...]:
        """The width of each state that the cell carries."""
        return (self.hidden_size,)

    def _sequence(
        self, given: Products, suffix: str, initial: Outputs, steps: Steps, every: int
    ) -> tuple[Trace, Tensors]:
        """Run a direction of a layer over x, with the state kept every so many steps for the way back.

        1: every state and all else that the way back needs; more: what lies between is computed again, and the
        trace has of c the last one alone, and no gates; 0: no way back, and the same trace. The last states
        [1,B,width] come with it. An initial state that is None is zero.
        """
        raise NotImplementedError

    def _parameter(self, name: str) -> Tensor:
        """As the layer runs on it: of what has fewer bits than float32 a copy, which sends its gradient back."""
        return wide(self._kept(name))

    def _kept(self, name: str) -> Tensor:
        # An attribute takes the module ten times as long; only there is what parametrize makes of others.
        parameter: Tensor | None = self._parameters.get(name)
        return getattr(self, name) if parameter is None else parameter

    def _weight_hh(self, suffix: str) -> Tensor:
        """The recurrent weight; with weight_drop, some of it is 0 in training, the same at all steps of a call."""
        weight_hh = self._parameter(f"weight_hh{suffix}")
        if not self.variant.weight_drop:
            return weight_hh
        return F.dropout(weight_hh, self.variant.weight_drop, self.training)

    def _zoneout(self, name: str, given: Products, initial: Tensor | None) -> Tensor | None:
        """The part of the state `name`, before any step `initial` [B,width], that stays as it was."""
        if initial is None:
            return None
        return self.variant.zoneout(name, initial, (given.steps, *initial.shape), self.training)

    def _biases(self, suffix: str) -> tuple[Tensor | None, Tensor | None]:
        """bias_ih and bias_hh."""
        if not self.bias:
            return None, None
        return self._parameter(f"bias_ih{suffix}"), self._parameter(f"bias_hh{suffix}")

    def _bias_of_input(self, suffix: str) -> Tensor | None:
        """The biases that can be added before the recurrence, in one vector."""
        bias_ih, bias_hh = self._biases(suffix)
        return None if bias_ih is None or bias_hh is None else bias_ih + bias_hh

    def _bias_of_state(self, suffix: str) -> Tensor | None:
        """The bias that is left to be added within the recurrence."""
        return None

    def _forward(
        self,
        input: Input,
        initial: Tensors | None,
        lengths: Tensor | None,
        resets: Tensor | None,
        embedding: Tensor | None,
        traced: bool,
    ) -> tuple[Input, Tensors, list[Trace]]:
        """Bring any layout of input to [T,B,D], run the stack, return output and traces in the input's layout.

        There are traces where `traced`, one for each layer and direction, as the states are ordered. With an
        embedding the input are symbols, which are brought to [T,B,1].
        """
        name = type(self).__name__
        if to_onnx() and self._is_torchs(lengths, resets, embedding, traced):
            return *by_torch(self, input, initial), []
        if embedding is not None:
            input = checked_symbols(input, embedding, self.input_size)
        if isinstance(input, PackedSequence):
            if traced:
                raise InputError(f"{name}: trace needs a Tensor with lengths, not a PackedSequence")
            packed, final = self._forward_packed(input, initial, lengths, resets, embedding)
            return packed, final, []
        if not isinstance(input, Tensor):
            raise TypeError(f"{name}: input must be a Tensor or a PackedSequence, got {type(input).__name__}")
        if not is_dense(input):
            found = laid_out(input)
            raise TypeError(f"{name}: input must be a dense Tensor, with lengths where rows differ, got {found}")
        if input.dim() not in (2, 3):
            raise ValueError(f"{name}: Expected input to be 2D or 3D, got {input.dim()}D instead")
        check_dims(initial, input.dim())
        if input.dim() == 2:
            lengths, resets = checked_masks(lengths, resets, (), tuple(input.shape[:1]), input.device)
            output, final, traces = self._stack(
                input[:, None],
                None if initial is None else tuple(state[:, None] for state in initial),
                None if lengths is None else lengths[None],
                None if resets is None else resets[:, None],
                embedding,
                traced,
            )
            bare = [trace.laid_out(lambda part: part[:, 0]) for trace in traces]
            return output[:, 0], tuple(state[:, 0] for state in final), bare
        rows = input.shape[0 if self.batch_first else 1]
        lengths, resets = checked_masks(lengths, resets, (rows,), tuple(input.shape[:2]), input.device)
        if not self.batch_first:
            return self._stack(input, initial, lengths, resets, embedding, traced)
        resets = None if resets is None else self._by_step(resets)
        x = input.transpose(0, 1).contiguous()
        output, final, traces = self._stack(x, initial, lengths, resets, embedding, traced)
        turned = [trace.laid_out(lambda part: part.transpose(0, 1)) for trace in traces]
        return output.transpose(0, 1), final, turned

    def _is_torchs(self, *added: Tensor | bool | None) -> bool:
        """Whether torch's layer would compute the same, called without what ours has `added`."""
        return self.variant.plain(self.training) and all(one is None or one is False for one in added)

    def _forward_packed(
        self,
        input: PackedSequence,
        initial: Tensors | None,
        lengths: Tensor | None,
        resets: Tensor | None,
        embedding: Tensor | None,
    ) -> tuple[PackedSequence, Tensors]:
        """Run the rows padded, in their order before packing, which is that of states and resets."""
        if lengths is not None:
            raise InputError("lengths cannot be given with a PackedSequence, which has its own")
        if input.data.dim() != 2:
            raise RuntimeError(f"input must have 2 dimensions, got {input.data.dim()}")
        check_dims(initial, 3)
        steps, rows = len(input.batch_sizes), int(input.batch_sizes[0])
        resets_shape = (rows, steps) if self.batch_first else (steps, rows)
        _, resets = checked_masks(None, resets, (rows,), resets_shape, input.data.device)
        resets = None if resets is None else self._by_step(resets)

        def run(
            x: Tensor, initial: Tensors | None, lengths: Tensor, resets: Tensor | None
        ) -> tuple[Tensor, Tensors]:
            output, final, _ = self._stack(x, initial, lengths, resets, embedding, False)
            return output, final

        # A mask of weights holds for a whole call, and what is traced for rows of any length.
        one_mask = self.variant.weight_drop and self.training
        may_group = not (one_mask or torch.jit.is_tracing())  # type: ignore[attr-defined, no-untyped-call]
        return run_packed(run, input, initial, resets, may_group)

    def _by_step(self, resets: Tensor) -> Tensor:
        """Resets [T,B] of those in the layer's layout, and the other way round."""
        return resets.transpose(0, 1) if self.batch_first else resets

    def _stack(
        self,
        x: Tensor,
        initial: Tensors | None,
        lengths: Tensor | None,
        resets: Tensor | None,
        embedding: Tensor | None,
        traced: bool,
    ) -> tuple[Tensor, Tensors, list[Trace]]:
        """Run all layers over x [T,B,D]; return output, final states [L*directions,B,width] and traces."""
        steps, rows, _ = x.shape
        if steps == 0:
            raise RuntimeError(f"Expected sequence length to be larger than 0 in {type(self).__name__}")
        symbols = None
        if embedding is not None:
            x, symbols = self._of_symbols(x[:, :, 0], embedding, lengths)
        self._check_input(x, "input" if embedding is None else "embedding")
        directions = 2 if self.bidirectional else 1
        shapes = [(self.num_layers * directions, rows, width) for width in self._state_widths()]
        check_states(initial or (), shapes, x)
        if served_by_torch(x.device.type, x.dtype) and rows and self._on_gpu(x, initial, resets, traced):
            x = x if symbols is None else F.embedding(symbols, x)
            states = initial or tuple([x.new_zeros(shape) for shape in shapes])
            return *gpu.run(self, list(self._learned()), x, states, lengths, resets), []
        bfloat16, x = multiplies_bfloat16(x), wide(x)
        every = 1 if traced else 0
        # The layer's own first, for `parameters` walks through modules; last what is made of others, by whomever.
        learned = chain(self._parameters.values(), self.parameters(), self._learned())
        if not traced and _needs_gradient(chain((x, *(initial or ())), learned)):
            every = 1 if torch.compiler.is_exporting() else self.recompute or 1
        starts: list[Outputs]
        if initial is not None:
            starts = list(zip(*[wide(state).unbind() for state in initial], strict=True))
        elif every > 1 or self.variant.masks:  # which are made like states
            starts = [tuple([x.new_zeros(shape[1:]) for shape in shapes])] * shapes[0][0]
        else:
            starts = [(None,) * len(shapes)] * shapes[0][0]
        finals: list[Tensors] = []
        traces: list[Trace] = []
        for layer in range(self.num_layers):
            outputs = []
            for reverse in (False, True)[:directions]:
                suffix = f"_l{layer}_reverse" if reverse else f"_l{layer}"
                before = starts[len(finals)]
                given = self._products(x, symbols, suffix, lengths, bfloat16)
                steps_taken = Steps(lengths, resets, reverse, bfloat16)
                trace, last = self._sequence(given, suffix, before, steps_taken, every)
                outputs.append(trace.h)
                finals.append(last)
                if traced:
                    traces.append(trace)
            x, symbols = torch.cat(outputs, dim=-1) if self.bidirectional else outputs[0], None
            if layer < self.num_layers - 1:
                x = F.dropout(x, self.dropout, self.training)
        final = tuple(torch.cat(state) if len(state) > 1 else state[0] for state in zip(*finals, strict=True))
        if not widens(self._kept("weight_ih_l0")):
            return x, final, traces
        return self._narrow(x), tuple(map(self._narrow, final)), [trace.laid_out(self._narrow) for trace in traces]

    def _learned(self) -> Iterator[Tensor]:
        """All that it has learned, in torch's order."""
        return map(self._kept, self._flat_weights_names)

    def _on_gpu(self, x: Tensor, initial: Tensors | None, resets: Tensor | None, traced: bool) -> bool:
        """Whether a call is one that `unrolled.nn.gpu` knows."""
        return (
            self._is_torchs(resets if self.bidirectional else None, traced)
            and not self.recompute
            and not torch.compiler.is_compiling()
            and not needs_composite((x, *(initial or ()), *self._learned()))
        )

    def _narrow(self, part: Tensor) -> Tensor:
        """What comes out of a layer that is kept in fewer bits than float32: rounded once, at the end."""
        return part.to(self._kept("weight_ih_l0").dtype)

    def _of_symbols(
        self, symbols: Tensor, embedding: Tensor, lengths: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """The embedding [V,D] and symbols [T,B], or, where there are fewer steps than symbols, x [T,B,D]."""
        if lengths is not None:
            symbols = symbols.masked_fill(_past(symbols, lengths), 0)
        # An exported program has one way for any number of steps; so, above, it does not recompute.
        once = not self.variant.layer_norm and not torch.compiler.is_exporting()
        few = once and embedding.shape[0] <= symbols.numel()
        if few:
            return embedding, symbols
        try:
            return F.embedding(symbols, embedding), None
        except IndexError as error:  # which says of nothing what it is
            raise IndexError(unknown_symbol(symbols, len(embedding))) from error

    def _products(
        self, x: Tensor, symbols: Tensor | None, suffix: str, lengths: Tensor | None, bfloat16: bool
    ) -> Products:
        """What the op takes; under autocast the product with x is torch's, unless the op makes it as fast."""
        weight_hh = self._weight_hh(suffix)
        if not under_autocast(x) or (bfloat16 and not MATRIX_UNITS):
            bias_ih, bias_hh = self._biases(suffix)
            return Products(x, symbols, self._parameter(f"weight_ih{suffix}"), bias_ih, weight_hh, bias_hh)
        if lengths is not None and symbols is None:
            # What stands past a row's length, NaN too, must not reach weight_ih's gradient as 0 * NaN.
            x = x.masked_fill(_past(x, lengths)[:, :, None], 0)
        return Products(
            self._share_of_input(x, suffix), symbols, None, None, weight_hh, self._bias_of_state(suffix)
        )

    def _share_of_input(self, x: Tensor, suffix: str) -> Tensor:
        """The input's share of the gates, all biases added that can be."""
        return F.linear(x, self._parameter(f"weight_ih{suffix}"), self._bias_of_input(suffix))

    def _check_input(self, x: Tensor, name: str) -> None:
        weight = self._kept("weight_ih_l0")
        dtype = weight.dtype
        if x.device != weight.device:
            raise RuntimeError(
                "Input and parameter tensors are not at the same device, found "
                f"{name} tensor at {x.device} and parameter tensor at {weight.device}"
            )
        if not agree(x, dtype):
            raise ValueError(
                f"{type(self).__name__} {name} dtype ({x.dtype}) does not match weight dtype ({dtype}). "
                f"Convert {name}: {name}.to({dtype}), or convert model: model.to({x.dtype})"
            )
        if x.shape[-1] != self.input_size:
            raise RuntimeError(
                f"input.size(-1) must be equal to input_size. Expected {self.input_size}, got {x.shape[-1]}"
            )


def _past(sequence: Tensor, lengths: Tensor) -> Tensor:
    """Where [T,B] of a sequence [T,B,...] a row's steps are over."""
    return torch.arange(sequence.shape[0], device=sequence.device)[:, None] >= lengths


def _needs_gradient(tensors: Iterable[Tensor | None]) -> bool:
    """Whether what the way back needs is to be kept; `torch.jit.trace` expects one program with it and without."""
    wanted = torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in tensors)
    return wanted or torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
