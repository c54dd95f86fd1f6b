#!/usr/bin/env bash
# MNIST three times, in four minutes on one core: on a plane, in 30 groups without labels, and with the labels of 100 of 10,000 pictures.
set -euo pipefail
data=${1:-../shared/data/mnist/mnist.npz}
out=${OUT:-runs/aae}
ganforge train aae --preset map --data "$data" --out "$out/map" --overwrite
ganforge train aae --preset small --data "$data" --out "$out/groups" --overwrite
ganforge train aae --preset small --variant semi-supervised --labels 100 --dropout 0.2 --data "$data" --out "$out/few" --overwrite
for run in map groups few; do ganforge evaluate "$out/$run" --data "$data" --split test; done
ganforge sample "$out/few" --class all --seed 1 --out "$out/few/classes.png" --force
