#!/usr/bin/env bash
# Faces of 32x32 pixels, 2,000 of them: M falls from 0.6, and the samples become faces that differ.
set -euo pipefail
data=${1:-../shared/data/faces/faces.npz}
out=${OUT:-runs/began}
ganforge train began --preset small --data "$data" --out "$out" --overwrite
ganforge evaluate "$out" --data "$data"
ganforge interpolate "$out" --out "$out/interpolation.png"
