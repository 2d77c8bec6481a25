"""What a user of onnxsim runs: simplify, prune, save. Timed as a whole process.

`python with_onnxsim.py IN.onnx OUT.onnx SPARSITY`
"""

from __future__ import annotations

import sys

import onnx
import onnxsim


def main() -> None:
    """Prunes one file."""
    given, out, sparsity = sys.argv[1:]
    model, fine = onnxsim.simplify(given)
    if not fine:
        sys.exit("simplification changes the outputs")
    onnx.save(onnxsim.apply_structured_pruning(model, sparsity=float(sparsity)), out)


if __name__ == "__main__":
    main()
