"""Write scenes of MNIST's digits with captions, for `unrolled train caption`.

    UNROLLED_DATA=../shared/data python -m benchmarks.scenes OUT [--train 40000] [--test 1000] [--seed 0]

OUT/train has scenes made of MNIST's training split, OUT/test of its test split: 64 x 64 pixels, two to four
digits. Then `unrolled train caption` as in `configs/mnist-scenes.toml`.
"""

import argparse
import gzip
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.data import at
from unrolled.tasks.caption import scenes

SIZE, SIDE = 64, 26  # pixels of a scene and, about, of a digit


def main() -> None:
    """Write both folders."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--train", type=int, default=40_000)
    parser.add_argument("--test", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    write_both(at("mnist"), arguments.out, arguments.seed, arguments.train, arguments.test)


def write_both(mnist: Path, out: Path, seed: int, train: int = 40_000, test: int = 1_000) -> None:
    """Write `train` and `test` scenes into the folders of these names in `out`."""
    for number, (name, split, count) in enumerate((("train", "train", train), ("test", "t10k", test))):
        digits = read_idx(mnist / f"{split}-images-idx3-ubyte.gz")
        labels = read_idx(mnist / f"{split}-labels-idx1-ubyte.gz")
        made = scenes.compose(digits, labels, count, size=SIZE, side=SIDE, turn=0, seed=2 * seed + number)
        scenes.write(out / name, made)


def read_idx(path: Path) -> NDArray[Any]:
    """The bytes of a gzipped IDX file, MNIST's own format, in their shape."""
    content = gzip.decompress(path.read_bytes())
    dimensions = content[3]
    shape = [int.from_bytes(content[4 + 4 * n : 8 + 4 * n], "big") for n in range(dimensions)]
    return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


if __name__ == "__main__":
    main()
