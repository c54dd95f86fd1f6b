#!/usr/bin/env bash
# Grey digits and coloured ones become each other without pairs, and how often a classifier still reads the digit. A hard pair of folders:
# examples/cyclegan.sh ../shared/data/cat2dog pets
set -euo pipefail
data=${1:-../shared/data/mnist/mnist.npz,../shared/data/mnist_m/mnist_m.npz}
out=${OUT:-runs/cyclegan}

ganforge train cyclegan --preset "${2:-small}" --data "$data" --out "$out" --overwrite
ganforge evaluate "$out" --data "$data" --split test
