#!/usr/bin/env bash
# A hundred labels among ten thousand digits: the test error of the game, and that of the same classifier taught by the labels alone.
set -euo pipefail
data=${1:-../shared/data/mnist/mnist.npz}
out=${OUT:-runs/sgan}

ganforge train sgan --preset small --data "$data" --out "$out" --overwrite
ganforge evaluate "$out" --data "$data" --split test
ganforge train sgan --preset small --weight 0 --rounds 1000 --data "$data" --out "$out-labels-alone" --overwrite
ganforge evaluate "$out-labels-alone" --data "$data" --split test
