"""Which kernel serves an op: the compiled engine on CPU in float32, else `unrolled.ops.reference`.

The reference serves nobody silently who did not ask for it. This module makes ops, with schema and fake, of two
tables of kernels; it knows nothing of what an op computes or of its gradients.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from unrolled import _engine
from unrolled.errors import InputError
from unrolled.ops import reference
from unrolled.ops.library import Op, declare
from unrolled.rates import accelerator

__all__ = [
    "ENGINE",
    "REFERENCE",
    "SERVED",
    "KernelRow",
    "Outputs",
    "Served",
    "Tensors",
    "define",
    "kernels",
    "multiplies_bfloat16",
    "pooled",
    "served_by_engine",
    "served_by_torch",
    "warn_reference",
    "wide",
    "widens",
]

HAS_BFLOAT16 = _engine.multiplies_bfloat16()  # as this was imported: torch.compile cannot trace the call
NARROW = (torch.bfloat16, torch.float16)
LARGE = 4 << 20  # bytes: smaller blocks the C library keeps by itself

Tensors = tuple[Tensor, ...]
Outputs = tuple[Tensor | None, ...]

ENGINE: dict[str, Callable[..., None]] = {
    "rnn": _engine.rnn_forward,
    "rnn_backward": _engine.rnn_backward,
    "lstm": _engine.lstm_forward,
    "lstm_backward": _engine.lstm_backward,
    "gru": _engine.gru_forward,
    "gru_backward": _engine.gru_backward,
}
REFERENCE: dict[str, Callable[..., None]] = {
    "rnn": reference.rnn_forward,
    "rnn_backward": reference.rnn_backward,
    "lstm": reference.lstm_forward,
    "lstm_backward": reference.lstm_backward,
    "gru": reference.gru_forward,
    "gru_backward": reference.gru_backward,
}


def served_by_engine(op: str, is_cpu: bool, dtype: torch.dtype) -> bool:
    """Whether the engine serves op ("lstm") for tensors of this dtype, on a CPU or not."""
    return is_cpu and dtype == torch.float32 and op in ENGINE


def served_by_torch(device: str, dtype: torch.dtype) -> bool:
    """Whether a plain layer on a device of this type ("cuda") is torch's own kernels' to run, such as cuDNN's."""
    return device not in ("cpu", "meta") and dtype != torch.float64


def widens(x: Tensor) -> bool:
    """Whether a layer runs on x in float32, which the engine serves, because x has fewer bits and is on a CPU."""
    return x.dtype in NARROW and x.is_cpu


def wide(x: Tensor) -> Tensor:
    """What a layer runs on in the place of x."""
    return x.float() if widens(x) else x


def multiplies_bfloat16(x: Tensor) -> bool:
    """Whether products with x are to be in bfloat16, as x is or autocast says, and the engine has such."""
    asked = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    return (asked or x.dtype == torch.bfloat16) and x.is_cpu and HAS_BFLOAT16


@dataclass(frozen=True)
class KernelRow:
    """Which kernel serves one op: "engine", with the `isa` in use, "reference", or "torch".

    The last is that of plain layers, by torch's own kernels; the op itself is then the reference's.
    """

    op: str
    device: str
    dtype: str
    kernel: str
    isa: str


def kernels() -> list[KernelRow]:
    """Which kernel serves each op on this machine, by the rule that the ops themselves follow."""
    rows = []
    for op in REFERENCE:
        for device in filter(None, ("cpu", accelerator())):
            for dtype in (torch.float32, torch.float64):
                name = str(dtype).removeprefix("torch.")
                engine = served_by_engine(op, device == "cpu", dtype)
                plain = "torch" if served_by_torch(device, dtype) else "reference"
                kernel, isa = ("engine", _engine.isa()) if engine else (plain, "")
                rows.append(KernelRow(f"unrolled::{op}", device, name, kernel, isa))
    return rows


def _run(op: str, inputs: tuple[Tensor | bool | None, ...], outputs: Outputs, *told: bool) -> None:
    """Fill outputs by the kernel that serves op; the first input says where and in which dtype.

    What the kernel is told beyond them comes last.
    """
    first = inputs[0]
    assert isinstance(first, Tensor)
    if served_by_engine(op, first.is_cpu, first.dtype):
        # Not as tensors, which the engine would ask for the same in four times the time, and not as arrays: what
        # has been one of NumPy's can never be resized.
        given = [torch._C._to_dlpack(_plain(x)) if isinstance(x, Tensor) else x for x in inputs]
        given += [None if x is None else torch._C._to_dlpack(x) for x in outputs]
        try:
            return ENGINE[op](*given, *told)
        except TypeError as error:
            raise InputError(_unlike(op, inputs)) from error
        except ValueError as error:
            raise InputError(str(error)) from error
    if first.dtype != torch.float64:  # whoever chooses float64 chooses the reference
        warn_reference(f"unrolled::{op.removesuffix('_backward')} in {first.dtype} on {first.device.type}")
    REFERENCE[op](*[_plain(x).detach() if isinstance(x, Tensor) else x for x in inputs], *outputs, *told)


def _unlike(op: str, inputs: tuple[Tensor | bool | None, ...]) -> str:
    """Which of the tensors is not as the first is, in dtype or device."""
    first = inputs[0]
    assert isinstance(first, Tensor)
    schema: Any = getattr(torch.ops.unrolled, op).default._schema
    for argument, one in zip(schema.arguments, inputs, strict=False):
        whole = isinstance(one, Tensor) and not one.dtype.is_floating_point
        if isinstance(one, Tensor) and not whole and (one.dtype, one.device) != (first.dtype, first.device):
            return (
                f"unrolled::{op}: {argument.name} is {one.dtype} on {one.device}, "
                f"expected {first.dtype} on {first.device} as the input is"
            )
    return f"unrolled::{op}: its tensors are not what the engine takes"


def _plain(x: Tensor) -> Tensor:
    """What can be read from one end to the other; x itself, if it can."""
    return x if x.is_contiguous() and not x.is_neg() else x.contiguous().resolve_neg()


@cache
def warn_reference(what: str) -> None:
    """Warn, once a process for each `what`, that the reference serves it."""
    warnings.warn(
        f"{what} has no compiled kernel: the reference serves it, which is right but slow; "
        "`unrolled kernels` lists what serves each op",
        UserWarning,
        stacklevel=2,
    )


def pooled(output: Tensor) -> Tensor:
    """Uninitialised memory like `output`, which is: from the engine's pool if it is large, float32 and on the CPU.

    What a training step keeps is freed at its end. The C library would give such blocks back to the system, which
    clears every page anew for the next step.
    """
    if output.nbytes < LARGE or output.device.type != "cpu" or output.dtype != torch.float32:
        return output
    return from_dlpack(_engine.memory(output.shape))


@dataclass(frozen=True)
class Served:
    """An op that a kernel serves: one that fills what `allocate` makes, uninitialised, for the op's inputs.

    The last `told` of these say what is wanted; they are for `allocate` alone.
    """

    op: str
    allocate: Callable[..., Outputs]
    told: int

    def outputs(self, *inputs: Any) -> Outputs:
        """What is to be filled, None where nobody wants it."""
        return tuple([None if output is None else pooled(output) for output in self.allocate(*inputs)])

    def fill(self, inputs: tuple[Any, ...], outputs: Outputs) -> None:
        """Run the kernel over inputs."""
        _run(self.op, inputs[: len(inputs) - self.told], outputs)

    def fill_on(self, inputs: tuple[Any, ...], outputs: Outputs) -> None:
        """Run a way back that goes on from later steps, whose gradients the outputs hold.

        It adds to them, but for x's: see `continued` in `unrolled.ops.reference`.
        """
        _run(self.op, inputs[: len(inputs) - self.told], outputs, True)


SERVED: dict[str, Served] = {}


def define(op: str, signature: str, allocate: Callable[..., Outputs], told: int = 1) -> Op:
    """Define unrolled::op and put it into SERVED, which says what `allocate` and `told` are.

    An output that nobody wants is None to the kernel and to whoever calls past the dispatcher, and to torch an
    empty tensor. Each is one of its own, for no two outputs of an op of `torch.library` may share memory.
    """
    served = SERVED[op] = Served(op, allocate, told)

    def implementation(*inputs: Any) -> Outputs:
        outputs = served.outputs(*inputs)
        served.fill(inputs, outputs)
        return outputs

    def tensors(inputs: tuple[Any, ...], outputs: Outputs) -> Tensors:
        return tuple([inputs[0].new_empty(0) if output is None else output for output in outputs])

    definition = declare(
        op,
        signature,
        lambda *inputs: tensors(inputs, implementation(*inputs)),
        lambda *inputs: tensors(inputs, allocate(*inputs)),
    )
    return Op(definition, implementation)
