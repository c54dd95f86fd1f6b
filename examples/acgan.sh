#!/usr/bin/env bash
# Digits by their names: MNIST in about five minutes on one core, a row of each class, and how often a classifier reads the digit asked for.
set -euo pipefail
data=${1:-../shared/data/mnist/mnist.npz}
out=${OUT:-runs/acgan}

ganforge train acgan --preset small --data "$data" --out "$out" --overwrite
ganforge evaluate "$out" --data "$data" --split test
ganforge sample "$out" --class all --seed 1 --out "$out/classes.png" --force
