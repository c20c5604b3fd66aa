"""RNN, LSTM and GRU layers that take the place of torch.nn's and add lengths, resets, traces and initialisation.

A layer is parameters, one input projection for all steps, and a sequence op for each direction. Constructor,
parameters and their names and checkpoints come from `torch.nn.RNNBase`; outputs and gradients agree with torch's
to rounding. Which kernel computes an op is not known here.

An output is also what the way back reads: autograd refuses to go back where it was changed in place, as it does
for torch's LSTM, so what follows a layer is `relu(y)`, not `relu_(y)`.

Under autocast to bfloat16 products read bfloat16, there and back, on a processor that multiplies it
(AVX512_BF16); elsewhere, and in float16, those with the input do. Sums, states, gates, gradients and the output
are float32.

A layer that is bfloat16 or float16 itself runs likewise on a CPU, from a copy of its parameters in float32. What
it returns is rounded at the end of each call, so between calls its state has the few bits of its dtype.

T steps, B rows, D input features, H hidden units, L layers, P projected units.
"""

from typing import Literal, overload

import torch
import torch.nn.functional as F
from torch import Tensor

from unrolled import _engine, ops
from unrolled.errors import InputError
from unrolled.nn.arguments import Input
from unrolled.nn.foreign import Proxy, recorded
from unrolled.nn.init import chrono
from unrolled.nn.recurrent import Products, Recurrent, Steps, Tensors, Trace
from unrolled.nn.swap import Swap, swap
from unrolled.nn.variants import LayerVariant, add_layer_norm, add_peepholes, couple_gates
from unrolled.ops.cells import NOT_NORMALISED, LayerNorm, Variant
from unrolled.ops.dispatch import Outputs
from unrolled.ops.flops import count_operations
from unrolled.ops.recompute import recomputed

__all__ = ["GRU", "LSTM", "RNN", "Swap", "Trace", "accelerate", "chrono", "release_memory"]

Device = torch.device | str | int | None

count_operations()


class _HiddenOnly(Recurrent):
    """A layer whose state is h alone."""

    @overload
    def forward(
        self,
        input: Input,
        hx: Tensor | None = ...,
        *,
        lengths: Tensor | None = ...,
        resets: Tensor | None = ...,
        embedding: Tensor | None = ...,
        trace: Literal[False] = ...,
    ) -> tuple[Input, Tensor]: ...

    @overload
    def forward(
        self,
        input: Input,
        hx: Tensor | None = ...,
        *,
        lengths: Tensor | None = ...,
        resets: Tensor | None = ...,
        embedding: Tensor | None = ...,
        trace: Literal[True],
    ) -> tuple[Input, Tensor, list[Trace]]: ...

    def forward(
        self,
        input: Input,
        hx: Tensor | None = None,
        *,
        lengths: Tensor | None = None,
        resets: Tensor | None = None,
        embedding: Tensor | None = None,
        trace: bool = False,
    ) -> tuple[Input, Tensor] | tuple[Input, Tensor, list[Trace]]:
        """Run over input from the state hx.

        Args:
            input: [T,B,D]; [B,T,D] with batch_first; [T,D] for a single row; or a PackedSequence.
            hx: the state before the first step, [L*directions,B,H]; zeros by default.
            lengths: [B] integers from 0 to T in any order: row b has lengths[b] steps. Past them nothing is
                read and the output is 0; the final state is the one after the row's own last step.
            resets: [T,B] bool, [B,T] with batch_first: where true, the row's state is zero before it consumes
                the step, and no gradient crosses.
            embedding: [V,D]: then input has symbols, integers from 0 to V - 1, in place of their D features,
                which are rows of it: [T,B], [B,T] with batch_first, or [T]. The same as with
                F.embedding(input, embedding), but while V is at most T*B what the layer makes of a symbol's
                features is made once for all of its steps.
            trace: whether to return every state and gate of every layer as well.

        Returns:
            The output [T,B,directions*H] in input's layout, and the final state in hx's; with `trace`, also a list
            of `Trace`, one for each layer and direction in hx's order.

        Raises:
            InputError: lengths, resets, symbols or embedding do not fit, or a PackedSequence is to be traced; a
                ValueError.
            IndexError: a symbol is not a row of the embedding.
            ValueError: input has the wrong dtype or number of dimensions.
            RuntimeError: input or hx has a wrong size.

        """
        if isinstance(input, Proxy):
            return recorded(self, input, hx, lengths=lengths, resets=resets, embedding=embedding, trace=trace)
        if hx is not None and not isinstance(hx, Tensor):
            raise TypeError(f"{type(self).__name__}: hx must be a Tensor, got {type(hx).__name__}")
        output, (h_n,), traces = self._forward(
            input, None if hx is None else (hx,), lengths, resets, embedding, trace
        )
        return (output, h_n, traces) if trace else (output, h_n)


class RNN(_HiddenOnly):
    """The standard (Elman) RNN of `unrolled.ops.cells.rnn_step`, in place of `torch.nn.RNN`.

    Arguments, parameters and inputs are those of torch.nn.RNN, defaults included; `nonlinearity` is "tanh" or
    "relu"; `forward` adds lengths, resets and trace. `weight_drop` is that of `LSTM`.

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
        *,
        weight_drop: float = 0.0,
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
        self.variant = LayerVariant(weight_drop=weight_drop)

    def _sequence(
        self, given: Products, suffix: str, initial: Outputs, steps: Steps, every: int
    ) -> tuple[Trace, Tensors]:
        (h0,) = initial
        h, h_n = ops.rnn(*given, h0, *steps, self.nonlinearity == "relu")
        return Trace(h, None, None), (h_n,)


class GRU(_HiddenOnly):
    """The gated recurrent unit of `unrolled.ops.cells.gru_step`, in place of `torch.nn.GRU`.

    Arguments, parameters and inputs are those of torch.nn.GRU, defaults included; `forward` adds lengths, resets
    and trace; `init`, `longest_gap`, `recompute`, `weight_drop` and `zoneout` (of h, its only state) are those of
    `LSTM`.

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
        init: str = "uniform",
        longest_gap: int | None = None,
        recompute: int | None = None,
        *,
        zoneout: float = 0.0,
        weight_drop: float = 0.0,
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
        self.variant = LayerVariant(zoneout_h=zoneout, weight_drop=weight_drop)
        self._initialise(init, longest_gap)
        self._set_recompute(recompute)

    def _bias_of_input(self, suffix: str) -> Tensor | None:
        """All but the recurrent bias of n, which r multiplies."""
        bias_ih, bias_hh = self._biases(suffix)
        if bias_ih is None or bias_hh is None:
            return None
        return bias_ih + F.pad(bias_hh[: 2 * self.hidden_size], (0, self.hidden_size))

    def _bias_of_state(self, suffix: str) -> Tensor | None:
        return self._biases(suffix)[1]

    def _sequence(
        self, given: Products, suffix: str, initial: Outputs, steps: Steps, every: int
    ) -> tuple[Trace, Tensors]:
        (h0,) = initial
        zoneout_h = self._zoneout("h", given, h0)
        if every > 1:
            h, _, h_n = recomputed("gru", every, *given, h0, *steps, zoneout_h)
            return Trace(h, None, None), (h_n,)
        h, gates, h_n = ops.gru(*given, h0, *steps, every == 1, zoneout_h)
        return Trace(h, None, gates), (h_n,)


class LSTM(Recurrent):
    """The long short-term memory of `unrolled.ops.cells.lstm_step`, in place of `torch.nn.LSTM`.

    Arguments, parameters and inputs are those of torch.nn.LSTM, defaults included. `init` is "uniform" (torch's)
    or "chrono" (see `chrono`), which needs the `longest_gap` to be expected, in steps. With `recompute`, a number
    of steps from 2, training keeps the output and a state every so many steps, and computes the rest again on the
    way back (see `unrolled.ops.recompute`): less memory for about 1.4 times the time.

    The rest are variants, which go together as one likes (equations and papers: `unrolled.ops.cells.Variant`):

    - `peephole`: the gates see the cell state through parameters peephole_l0 … [3,H] (Gers & Schmidhuber 2000).
    - `coupled`: the forget gate is 1 - i (Greff et al. 2017); weights and biases have the rows of i, g and o.
    - `recurrent_dropout`: the probability with which a unit takes in nothing new at a step of training, what it
      remembers being left alone (Semeniuta et al. 2016).
    - `zoneout`: the probability with which a unit stays as it was at a step, for h and c, or a pair of two;
      outside training, states move by the expectation (Krueger et al. 2017).
    - `weight_drop`: the probability with which a weight of weight_hh is 0 during a call in training, for all steps
      (AWD-LSTM: Merity, Keskar & Socher 2018, "Regularizing and optimizing LSTM language models").
    - `layer_norm`: the gates' two products and the cell state are normalised (Ba, Kiros & Hinton 2016), with
      parameters gain_ih_l0, gain_hh_l0 [4H], gain_c_l0 and bias_c_l0 [H] ….

    Masks are drawn by torch's generator. Raises `InputError` for other values of `init` and `recompute` and for
    what is no probability.

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
        init: str = "uniform",
        longest_gap: int | None = None,
        recompute: int | None = None,
        *,
        peephole: bool = False,
        coupled: bool = False,
        recurrent_dropout: float = 0.0,
        zoneout: float | tuple[float, float] = 0.0,
        weight_drop: float = 0.0,
        layer_norm: bool = False,
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
        of_each = zoneout if isinstance(zoneout, tuple) else (zoneout, zoneout)
        if len(of_each) != 2:
            raise InputError(f"zoneout is {zoneout!r}, expected a probability, or a pair of two for h and c")
        zoneout_h, zoneout_c = of_each
        self.variant = LayerVariant(
            peephole, coupled, recurrent_dropout, zoneout_h, zoneout_c, weight_drop, layer_norm
        )
        if coupled:
            couple_gates(self)
        if peephole:
            add_peepholes(self, gates=3 if coupled else 4)
        if layer_norm:
            add_layer_norm(self, gates=3 if coupled else 4)
        self._initialise(init, longest_gap)
        self._set_recompute(recompute)

    @overload
    def forward(
        self,
        input: Input,
        hx: tuple[Tensor, Tensor] | None = ...,
        *,
        lengths: Tensor | None = ...,
        resets: Tensor | None = ...,
        embedding: Tensor | None = ...,
        trace: Literal[False] = ...,
    ) -> tuple[Input, tuple[Tensor, Tensor]]: ...

    @overload
    def forward(
        self,
        input: Input,
        hx: tuple[Tensor, Tensor] | None = ...,
        *,
        lengths: Tensor | None = ...,
        resets: Tensor | None = ...,
        embedding: Tensor | None = ...,
        trace: Literal[True],
    ) -> tuple[Input, tuple[Tensor, Tensor], list[Trace]]: ...

    def forward(
        self,
        input: Input,
        hx: tuple[Tensor, Tensor] | None = None,
        *,
        lengths: Tensor | None = None,
        resets: Tensor | None = None,
        embedding: Tensor | None = None,
        trace: bool = False,
    ) -> tuple[Input, tuple[Tensor, Tensor]] | tuple[Input, tuple[Tensor, Tensor], list[Trace]]:
        """Run over input from hx = (h_0, c_0); return the output, the final (h_n, c_n) and, if `trace`, traces.

        Arguments and errors are those of `RNN.forward`. With proj_size P, the output and h are P wide.
        """
        if isinstance(input, Proxy):
            return recorded(self, input, hx, lengths=lengths, resets=resets, embedding=embedding, trace=trace)
        if hx is not None and not (isinstance(hx, tuple | list) and len(hx) == 2):
            raise TypeError(f"LSTM: hx must be a pair (h_0, c_0), got {type(hx).__name__}")
        output, (h_n, c_n), traces = self._forward(input, hx, lengths, resets, embedding, trace)
        return (output, (h_n, c_n), traces) if trace else (output, (h_n, c_n))

    # What torch.nn.LSTM has for its states of two widths, for subclasses and wrappers that call it.
    check_forward_args = torch.nn.LSTM.check_forward_args  # type: ignore[assignment]
    get_expected_cell_size = torch.nn.LSTM.get_expected_cell_size
    permute_hidden = torch.nn.LSTM.permute_hidden  # type: ignore[assignment]

    def _state_widths(self) -> tuple[int, ...]:
        return (self.proj_size or self.hidden_size, self.hidden_size)

    def _share_of_input(self, x: Tensor, suffix: str) -> Tensor:
        if not self.variant.layer_norm:
            return super()._share_of_input(x, suffix)
        gain_ih, bias = self._parameter(f"gain_ih{suffix}"), self._bias_of_input(suffix)
        product = F.linear(x, self._parameter(f"weight_ih{suffix}"))
        normalised = F.layer_norm(product, gain_ih.shape, gain_ih)
        return normalised if bias is None else normalised + bias

    def _sequence(
        self, given: Products, suffix: str, initial: Outputs, steps: Steps, every: int
    ) -> tuple[Trace, Tensors]:
        h0, c0 = initial
        variant = Variant(
            weight_hr=self._parameter(f"weight_hr{suffix}") if self.proj_size else None,
            peephole=self._parameter(f"peephole{suffix}") if self.variant.peephole else None,
            dropout=None if c0 is None else self.variant.dropout(c0, (given.steps, *c0.shape), self.training),
            zoneout_h=self._zoneout("h", given, h0),
            zoneout_c=self._zoneout("c", given, c0),
        )
        norm = NOT_NORMALISED
        if self.variant.layer_norm:
            gain_ih, *rest = (self._parameter(f"{name}{suffix}") for name in LayerNorm._fields)
            norm = LayerNorm(None if given.weight_ih is None else gain_ih, *rest)
        if every > 1:
            learned, factors = (*variant[:2], *norm), variant[2:]
            h, c, h_n = recomputed("lstm", every, *given, *learned, *initial, *steps, *factors)
            assert c is not None
            return Trace(h, c, None), (h_n, c)
        h, c, gates, *last = ops.lstm(*given, h0, c0, *steps, every == 1, variant, norm)
        return Trace(h, c, gates), tuple(last)


def accelerate(model: torch.nn.Module) -> Swap:
    """Turn every torch.nn.LSTM, GRU and RNN inside model into ours, in place, and say what was done.

    Only the class of a layer changes: the object, its parameters and their names, hooks, training mode and outputs
    (to rounding) stay, so an optimiser that was made before goes on. But it is no torch.nn.LSTM any more to a
    program that asks by isinstance; torch.nn.RNNBase it stays. Where model is such a layer, it is turned
    itself. Left as they are, each with its reason: layers that the engine does not serve (in float64, or on
    another device), subclasses, parametrized and scripted layers, and cells such as LSTMCell. Raises `InputError`
    if model is not a Module.

    >>> model = torch.nn.ModuleDict({"encoder": torch.nn.LSTM(3, 5), "step": torch.nn.LSTMCell(5, 5)})
    >>> print(accelerate(model))
    encoder: replaced
    step: left, LSTMCell is a single step; the loop over steps is the model's own
    """
    return swap(model, {torch.nn.RNN: RNN, torch.nn.GRU: GRU, torch.nn.LSTM: LSTM})


def release_memory() -> None:
    """Give back to the system what the layers keep of a training step's memory for the next one."""
    _engine.release_memory()
