#!/usr/bin/env bash
# Digits sorted without labels: MNIST in about four minutes on one core, how well the categories match the classes, and a sweep of the codes.
set -euo pipefail
data=${1:-../shared/data/mnist/mnist.npz}
out=${OUT:-runs/infogan}

ganforge train infogan --preset small --data "$data" --out "$out" --overwrite
ganforge evaluate "$out" --data "$data" --split test
ganforge edit "$out" --set category=0..9 --steps 10 --n 10 --out "$out/categories.png" --force
ganforge edit "$out" --set c1=-2..2 --steps 10 --n 10 --out "$out/c1.png" --force
