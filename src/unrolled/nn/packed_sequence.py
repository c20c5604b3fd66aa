"""Rows that torch's PackedSequence holds, run padded; rows of very different length in groups.

It knows nothing of layers: what is run over padded rows is given. T steps, B rows.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

__all__ = ["Run", "run_packed"]

Tensors = tuple[Tensor, ...]
# Of x [T,B,D], initial states [L,B,width] or None, lengths [B] and resets [T,B] or None: the output [T,B,H] and
# the final states.
Run = Callable[[Tensor, Tensors | None, Tensor, Tensor | None], tuple[Tensor, Tensors]]


def run_packed(
    run: Run, rows: PackedSequence, initial: Tensors | None, resets: Tensor | None, may_group: bool
) -> tuple[PackedSequence, Tensors]:
    """Run rows padded, in their order before packing, which is that of states and resets.

    Where padding would be more than there is, in groups, if they may be run apart.
    """
    steps, count = len(rows.batch_sizes), int(rows.batch_sizes[0])
    if may_group and steps * count > 2 * len(rows.data):
        return _run_groups(run, rows, initial, resets)
    x, lengths = pad_packed_sequence(rows)
    output, final = run(x, initial, lengths.to(x.device), resets)
    if rows.sorted_indices is not None:
        output = output.index_select(1, rows.sorted_indices)
        lengths = lengths[rows.sorted_indices.cpu()]
    packed = pack_padded_sequence(output, lengths)
    return PackedSequence(packed.data, rows.batch_sizes, rows.sorted_indices, rows.unsorted_indices), final


def _run_groups(
    run: Run, rows: PackedSequence, initial: Tensors | None, resets: Tensor | None
) -> tuple[PackedSequence, Tensors]:
    """Run rows that are at least half as long as the longest of them together: padded, they stay small."""
    data, batch_sizes, order, back = rows
    if order is not None:
        initial = initial and tuple(state.index_select(1, order) for state in initial)
        resets = None if resets is None else resets.index_select(1, order)
    starts = batch_sizes.cumsum(0) - batch_sizes
    row_of = torch.arange(len(data)) - starts.repeat_interleave(batch_sizes)
    outputs, finals, places = [], [], []
    first = 0
    while first < batch_sizes[0]:
        longest = int((batch_sizes > first).sum())
        past = int(batch_sizes[(longest - 1) // 2])  # rows of at least half of its steps
        place = torch.nonzero((row_of >= first) & (row_of < past)).flatten()
        sizes = (batch_sizes[:longest] - first).clamp(max=past - first)
        output, final = run_packed(
            run,
            PackedSequence(data[place.to(data.device)], sizes),
            initial and tuple(state[:, first:past] for state in initial),
            None if resets is None else resets[:longest, first:past],
            may_group=False,
        )
        outputs.append(output.data)
        finals.append(final)
        places.append(place)
        first = past
    whole = torch.cat(outputs)[torch.cat(places).argsort().to(data.device)]
    final = tuple(torch.cat(parts, dim=1) for parts in zip(*finals, strict=True))
    if back is not None:
        final = tuple(state.index_select(1, back) for state in final)
    return PackedSequence(whole, batch_sizes, order, back), final
