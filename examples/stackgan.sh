#!/usr/bin/env bash
# Faces from sentences: CelebA with captions, 16 and then 32 pixels, in eight minutes of one core.
set -euo pipefail
data=${1:-../shared/data/celeba_attr}
out=${OUT:-runs/stackgan}

ganforge train stackgan --preset small --data "$data" --out "$out" --overwrite
ganforge evaluate "$out" --data "$data"
ganforge sample "$out" --text "a smiling woman with blond hair" --n 16 --seed 1 --out "$out/blond.png" --force
ganforge sample "$out" --text "a man with black hair" --n 16 --seed 1 --out "$out/black.png" --force
