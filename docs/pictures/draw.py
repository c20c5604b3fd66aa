"""Draw the pictures of docs/lstm.md: SVG written directly, with the standard library alone.

    python docs/pictures/draw.py [FOLDER]

writes them into FOLDER, by default the one this file is in. Coordinates are in pixels from the top left. Each
picture stands on a light sheet of its own, so that it reads on a light page and on a dark one.
"""

import math
import sys
from collections.abc import Callable
from html import escape
from pathlib import Path

INK, SOFT, RULE, SHEET = "#24292f", "#5b6570", "#d3d8de", "#fcfcfa"
STATE, INPUT, BACK = "#0b6b5d", "#7a4a9e", "#c0362c"
PALE = "#f0f2f4"
GATES = {"i": "#dbe9f8", "f": "#fae3d0", "g": "#e2f0d9", "o": "#f3e0ee"}

Point = tuple[float, float]


class Picture:
    """An SVG under construction."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self._parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
            f'height="{height}" role="img">',
            f"<title>{escape(title)}</title>",
        ]
        self.box(1, 1, width - 2, height - 2, fill=SHEET, stroke=RULE, radius=14)

    def text(
        self,
        x: float,
        y: float,
        words: str,
        *,
        size: int = 15,
        color: str = INK,
        anchor: str = "middle",
        code: bool = True,
        bold: bool = False,
    ) -> None:
        """Words whose middle height is y; in the typeface of code, or else of prose."""
        family = (
            "ui-monospace, Consolas, DejaVu Sans Mono, monospace" if code else "Helvetica, DejaVu Sans, sans-serif"
        )
        weight = ' font-weight="bold"' if bold else ""
        self._parts.append(
            f'<text x="{x:g}" y="{y + 0.35 * size:g}" font-family="{family}" font-size="{size}" fill="{color}" '
            f'text-anchor="{anchor}"{weight}>{escape(words)}</text>'
        )

    def note(self, x: float, y: float, words: str, anchor: str = "middle") -> None:
        """A remark in small, soft prose."""
        self.text(x, y, words, size=13, color=SOFT, anchor=anchor, code=False)

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        words: str = "",
        *,
        fill: str = PALE,
        stroke: str = INK,
        radius: float = 5,
        size: int = 15,
    ) -> None:
        """A rectangle with words in its middle."""
        self._parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{radius:g}" fill="{fill}" '
            f'stroke="{stroke}" stroke-width="1.4"/>'
        )
        if words:
            self.text(x + width / 2, y + height / 2, words, size=size)

    def operator(self, x: float, y: float, sign: str) -> None:
        """An elementwise operation: a small diamond, so that it is not taken for a layer with weights."""
        r = 15
        corners = f"{x:g},{y - r:g} {x + r:g},{y:g} {x:g},{y + r:g} {x - r:g},{y:g}"
        self._parts.append(f'<polygon points="{corners}" fill="{SHEET}" stroke="{INK}" stroke-width="1.6"/>')
        self.text(x, y, sign, size=17, code=False)

    def dot(self, x: float, y: float, color: str = INK) -> None:
        """Where a wire parts in two."""
        self._parts.append(f'<circle cx="{x:g}" cy="{y:g}" r="3.6" fill="{color}"/>')

    def wire(
        self,
        *points: Point,
        color: str = INK,
        width: float = 1.8,
        dashed: bool = False,
        head: bool = True,
        over: bool = False,
    ) -> None:
        """A line through the points, with a head at the last; `over` leaves a gap in what it crosses."""
        (x0, y0), (x1, y1) = points[-2:]
        length = math.hypot(x1 - x0, y1 - y0)
        dx, dy = (x1 - x0) / length, (y1 - y0) / length
        end = (x1 - 7 * dx, y1 - 7 * dy) if head else (x1, y1)
        line = " ".join(f"{x:g},{y:g}" for x, y in (*points[:-1], end))
        form = f'<polyline points="{line}" fill="none" stroke-linejoin="round"'
        if over:
            self._parts.append(f'{form} stroke="{SHEET}" stroke-width="{width + 7:g}"/>')
        dashes = ' stroke-dasharray="6 4"' if dashed else ""
        self._parts.append(f'{form} stroke="{color}" stroke-width="{width:g}"{dashes}/>')
        if head:
            bx, by, w = x1 - 10 * dx, y1 - 10 * dy, 3 + width
            corners = f"{x1:g},{y1:g} {bx - w * dy:g},{by + w * dx:g} {bx + w * dy:g},{by - w * dx:g}"
            self._parts.append(f'<polygon points="{corners}" fill="{color}"/>')

    def cut(self, x: float, y: float, color: str = BACK) -> None:
        """A wire ends here: two strokes across it."""
        for shift in (-3.5, 3.5):
            self.wire((x + shift - 3, y + 9), (x + shift + 3, y - 9), color=color, width=2.2, head=False)

    def svg(self) -> str:
        """The whole file."""
        return "\n".join([*self._parts, "</svg>", ""])


def chain() -> Picture:
    """The loop, and the same loop drawn as a chain."""
    p = Picture(960, 290, "A recurrent network as a loop, and unrolled into a chain of the same cell")
    y = 160
    p.text(140, 34, "the loop", code=False, bold=True)
    p.wire((190, y), (222, y), (222, 92), (58, 92), (58, y), (90, y), color=STATE, width=2.6)
    p.wire((222, 92), (222, 52), color=STATE)
    p.dot(222, 92, STATE)
    p.text(140, 76, "state", color=STATE, code=False)
    p.text(252, 56, "h[t]", color=STATE)
    p.box(90, y - 32, 100, 64, "cell", fill=GATES["i"])
    p.wire((140, 242), (140, y + 32), color=INPUT)
    p.text(140, 256, "x[t]", color=INPUT)
    p.text(292, y, "=", size=30, code=False)
    p.text(640, 34, "unrolled: the same cell, the same weights, once a step", code=False, bold=True)
    p.text(352, y - 11, "h0", color=STATE)
    p.text(352, y + 11, "c0", color=STATE)
    ends = 376.0
    for x, step in ((420, "0"), (570, "1"), (780, "T-1")):
        if step == "T-1":
            p.wire((ends, y), (718, y), color=STATE, width=2.6)
            p.text(736, y, "…", size=22, code=False, color=STATE)
            ends = 750
        p.wire((ends, y), (x, y), color=STATE, width=2.6)
        p.box(x, y - 32, 80, 64, "cell", fill=GATES["i"])
        p.wire((x + 40, 242), (x + 40, y + 32), color=INPUT)
        p.text(x + 40, 256, f"x[{step}]", color=INPUT)
        ends = x + 80
        p.wire((ends + 26, y), (ends + 26, 92), color=STATE)
        p.text(ends + 26, 76, f"h[{step}]", color=STATE)
    p.wire((ends, y), (926, y), color=STATE, width=2.6)
    for x in (526, 676, 886):
        p.dot(x, y, STATE)
    return p


def lstm_cell() -> Picture:
    """One step of the LSTM."""
    p = Picture(960, 500, "One step of an LSTM: the cell state along the top, the four gates below it")
    line, middle, squash, strip = 74, 190, 268, 360
    at = {"i": 270, "f": 410, "g": 550, "o": 690}
    ends, right = 864, 790
    p.wire((at["i"], squash), (at["i"], middle), (at["g"] - 15, middle))
    p.wire((at["f"], squash), (at["f"], line + 15), over=True)
    p.wire((96, line), (at["f"] - 15, line), color=STATE, width=4)
    p.wire((at["f"] + 15, line), (at["g"] - 15, line), color=STATE, width=4)
    p.wire((at["g"] + 15, line), (ends, line), color=STATE, width=4)
    p.wire((at["g"], squash), (at["g"], middle + 15))
    p.wire((at["g"], middle - 15), (at["g"], line + 15))
    p.wire((at["o"], squash), (at["o"], middle + 15))
    p.wire((at["o"], line), (at["o"], 112))
    p.wire((at["o"], 140), (at["o"], middle - 15))
    p.dot(at["o"], line, STATE)
    p.wire((at["o"] + 15, middle), (ends, middle), color=STATE, width=2.6)
    p.wire((right, middle), (right, 122), color=STATE, width=2.6)
    p.dot(right, middle, STATE)
    p.text(right, 106, "output", code=False, color=STATE)
    p.box(at["o"] - 34, 112, 68, 28, "tanh", fill=SHEET)
    p.operator(at["f"], line, "×")
    p.operator(at["g"], line, "+")
    p.operator(at["g"], middle, "×")
    p.operator(at["o"], middle, "×")
    p.text(60, line, "c[t-1]", color=STATE)
    p.text(ends + 34, line, "c[t]", color=STATE)
    p.text(ends + 34, middle, "h[t]", color=STATE)
    p.text((at["f"] + at["g"]) / 2, line - 26, "f * c[t-1]", size=13, color=SOFT)
    p.text(at["g"] + 12, 128, "i * g", size=13, color=SOFT, anchor="start")
    for gate, name in (("i", "input"), ("f", "forget"), ("g", "candidate"), ("o", "output")):
        x = at[gate]
        p.wire((x, strip), (x, squash + 34))
        p.box(x - 42, squash, 84, 34, "tanh" if gate == "g" else "sigmoid", fill=GATES[gate])
        p.text(x + 10, squash - 17, gate, size=17, anchor="start", bold=True)
        p.note(x + 27, squash - 16, name, anchor="start")
    for number, gate in enumerate(GATES):
        p.box(200 + number * 140, strip, 140, 40, f"H sums for {gate}", fill=GATES[gate], radius=0, size=13)
    p.note(774, strip + 20, "one row of 4H sums", anchor="start")
    p.wire((96, strip + 20), (200, strip + 20), color=STATE, width=2.6)
    p.text(60, strip + 20, "h[t-1]", color=STATE)
    p.text(146, strip + 40, "@ weight_hh.T", size=12, color=SOFT)
    p.wire((480, 450), (480, strip + 40), color=INPUT)
    p.text(480, 464, "x_gates[t] = x[t] @ weight_ih.T + bias_ih + bias_hh", color=INPUT)
    return p


def truncated() -> Picture:
    """The state goes on from chunk to chunk, the gradient does not; a reset stops both."""
    p = Picture(960, 300, "Truncated backpropagation: chunks with the state carried, and a reset")
    y, size = 130, 60
    chunks = ((102, "chunk k"), (542, "chunk k + 1"))
    for x, name in chunks:
        p.box(x - 22, 54, 376, 168, fill=PALE, stroke=RULE, radius=10)
        p.text(x + 166, 34, name, code=False, bold=True)
    starts = [x + 90 * n for x, _ in chunks for n in range(4)]
    reset = 6  # the cell that a reset comes before
    p.wire((56, y - 10), (starts[0], y - 10), color=STATE, width=2.6)
    p.text(42, y - 10, "…", size=22, code=False, color=STATE)
    for number, x in enumerate(starts):
        p.box(x, y - size / 2, size, size, "cell", fill=GATES["i"])
        if number + 1 == len(starts):
            break
        after = starts[number + 1]
        if number + 1 == reset:
            continue
        p.wire((x + size, y - 10), (after, y - 10), color=STATE, width=2.6)
        if number == 3:
            p.wire((after, y + 14), (after - 47, y + 14), color=BACK, dashed=True, head=False)
            p.cut(after - 56, y + 14)
        else:
            p.wire((after, y + 14), (x + size, y + 14), color=BACK, dashed=True)
    x = starts[reset]
    p.text(x - 15, y - 10, "0", color=STATE, bold=True)
    p.cut(x - 15, y + 14)
    p.text(x - 15, 74, "resets[t, b]", size=13)
    p.wire((x - 15, 84), (x - 15, y - 19), width=1.2)
    p.wire((starts[-1] + size, y - 10), (918, y - 10), color=STATE, width=2.6)
    p.text(932, y - 10, "…", size=22, code=False, color=STATE)
    for first, (_, name) in zip((0, 4), chunks, strict=True):
        middle = (starts[first] + starts[first + 3] + size) / 2
        loss = "loss of " + name
        p.box(middle - 85, 184, 170, 28, fill=SHEET, stroke=RULE)
        p.text(middle, 198, loss, size=13, code=False)
    p.text(486, 172, "detach()", size=12, color=BACK)
    p.wire((122, 258), (172, 258), color=STATE, width=2.6)
    p.text(184, 258, "state, forward: through every chunk", size=14, code=False, anchor="start")
    p.wire((582, 258), (532, 258), color=BACK, dashed=True)
    p.text(594, 258, "gradient, backward: within its chunk", size=14, code=False, anchor="start")
    return p


def panel() -> Picture:
    """How weight_hh is packed."""
    p = Picture(960, 480, "weight_hh packed into panels: for each k, one vector of units for each gate")
    p.text(140, 34, "weight_hh [4H, H]", bold=True)
    left, top, width, band = 60, 84, 170, 84
    for number, (gate, fill) in enumerate(GATES.items()):
        y = top + number * band
        p.box(left, y, width, band, fill=SHEET, stroke=RULE, radius=0)
        p.box(left, y + 24, width, 22, fill=fill, radius=0)
        p.text(left - 16, y + 35, gate, size=17, bold=True)
    column = left + 24
    p.box(column, top, 12, 4 * band, fill="none", stroke=BACK, radius=0)
    p.text(column + 6, top - 14, "k = 2", color=BACK, bold=True)
    p.note(left + width / 2, top + 4 * band + 22, "the rows of one block's units,")
    p.note(left + width / 2, top + 4 * band + 40, "one band from each gate")
    p.wire((262, 252), (330, 252), width=2.6)
    p.text(296, 234, "pack", code=False)
    p.text(640, 34, "one panel: panel[k][gate][lane]", bold=True)
    x0, lane, lanes = 400, 16, 8
    block = lane * lanes
    names = {0: "k = 0", 1: "1", 2: "2", 3: "3", 5: "H - 1"}
    for row in range(6):
        y = 84 + row * 46
        if row == 4:
            p.text(x0 + 2 * block, y + 15, "⋮", size=22, code=False)
            continue
        p.text(x0 - 14, y + 15, names[row], anchor="end", color=BACK if row == 2 else INK)
        for number, fill in enumerate(GATES.values()):
            for unit in range(lanes):
                p.box(x0 + number * block + unit * lane, y, lane, 30, fill=fill, stroke="#aab2ba", radius=0)
            p.box(x0 + number * block, y, block, 30, fill="none", radius=0)
    p.box(x0 - 3, 84 + 2 * 46 - 3, 4 * block + 6, 36, fill="none", stroke=BACK, radius=3)
    for number, gate in enumerate(GATES):
        p.text(x0 + (number + 0.5) * block, 68, gate, size=17, bold=True)
    y = 376
    p.wire((x0, y), (x0 + 4 * block, y), width=1.4)
    p.note(x0 + 2 * block, y + 18, "ascending addresses; the row k + 1 follows the row k")
    p.text(x0 + 2 * block, y + 50, "a small square is one float: one lane, one hidden unit", size=14, code=False)
    p.text(
        x0 + 2 * block,
        y + 72,
        "8 lanes are drawn, as for AVX2; AVX-512 has 16, the generic build 4",
        size=14,
        code=False,
    )
    return p


def tile() -> Picture:
    """The sums that stay in registers while k runs."""
    p = Picture(960, 420, "A register tile: the sums of R rows by four gates stay in registers while k runs")
    left, top, unit, gap, tall = 330, 186, 128, 8, 42
    p.text(left + 2 * unit + 12, 32, "step k of the sum", code=False, bold=True)
    p.note(left - 24, 91, "four vectors of weights,", anchor="end")
    p.note(left - 24, 109, "loaded once for the tile's rows", anchor="end")
    p.note(left - 24, 152, "one number of each row's h[t-1],", anchor="end")
    p.note(left - 24, 170, "the same in every lane", anchor="end")
    for number, (gate, fill) in enumerate(GATES.items()):
        x = left + number * (unit + gap)
        p.text(x + unit / 2, 64, gate, size=17, bold=True)
        p.box(x, 82, unit, 36, f"panel[k][{gate}]", fill=fill, size=14)
        p.wire((x + unit / 2, 118), (x + unit / 2, top - 4), width=1.4)
        for row in range(3):
            p.box(x, top + row * (tall + gap), unit, tall, f"sum[{row}][{gate}]", fill=fill, size=14)
    for row in range(3):
        y = top + row * (tall + gap)
        p.box(132, y + 3, 110, 36, f"rows[{row}][k]", fill=SHEET, stroke=STATE, size=14)
        p.wire((242, y + 21), (left - 4, y + 21), color=STATE, width=1.4)
    p.text(480, 356, "sum[r][gate] = fma(rows[r][k], panel[k][gate], sum[r][gate])", bold=True)
    p.note(
        480, 384, "k runs from 0 to H - 1; the sums start at x_gates[t] and leave the registers as h, c and gates"
    )
    return p


PICTURES: dict[str, Callable[[], Picture]] = {
    "chain": chain,
    "lstm-cell": lstm_cell,
    "truncated": truncated,
    "panel": panel,
    "tile": tile,
}


def main(folder: Path) -> None:
    """Write every picture into `folder`."""
    for name, draw in PICTURES.items():
        (folder / f"{name}.svg").write_text(draw().svg(), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
