#!/usr/bin/env bash
# Photographs of 256x256 pixels, made twice as large: the SRResNet alone, and what the discriminator adds to it.
set -euo pipefail
data=${1:-../shared/data/sr_photos}
out=${OUT:-runs/srgan}

# Without rounds of its own the second phase is left out; --resume goes on with it.
ganforge train srgan --preset small --rounds 0 --data "$data" --out "$out" --overwrite
ganforge evaluate "$out" --split test --size 256 --out "$out/srresnet.json"
ganforge train srgan --resume --rounds 1500 --data "$data" --out "$out"
ganforge evaluate "$out" --split test --size 256 --out "$out/srgan.json"
ganforge upscale "$out" "$data/val/urban_img_006.jpg" --out "$out/larger.png" --force
