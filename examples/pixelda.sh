#!/usr/bin/env bash
# Digits on patches of photographs (MNIST-M), read without one label of theirs: a few minutes on one core, beside a reader of MNIST alone.
set -euo pipefail
source=${1:-../shared/data/mnist/mnist.npz}
target=${2:-../shared/data/mnist_m/mnist_m.npz}
out=${OUT:-runs/pixelda}

ganforge train pixelda --preset small --data "$source,$target" --out "$out" --overwrite
ganforge evaluate "$out" --data "$target" --split test
