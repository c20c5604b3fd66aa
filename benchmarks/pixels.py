"""MNIST's digits as sequences of 784 pixels, in their order or in one random order (Le et al. 2015).

One label for the whole sequence, due at its last step: what the first pixels said must be remembered to the end.
"""

from pathlib import Path

import numpy as np

from benchmarks.scenes import read_idx

PERMUTATION_SEED = 0


def write_both(mnist: Path, folder: Path, permuted: bool) -> tuple[Path, Path]:
    """Write MNIST's training and test split as arrays for `unrolled train label`: two .npz files."""
    order = np.random.default_rng(PERMUTATION_SEED).permutation(784) if permuted else np.arange(784)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for split in ("train", "t10k"):
        digits = read_idx(mnist / f"{split}-images-idx3-ubyte.gz").reshape(-1, 784, 1)
        labels = read_idx(mnist / f"{split}-labels-idx1-ubyte.gz")
        written.append(folder / f"{split}.npz")
        np.savez(written[-1], inputs=digits[:, order], labels=labels)
    return written[0], written[1]
