"""What one does with a trained game, on tensors: `ganforge.load(run)` gives the game, `read_picture` a tensor, `as_picture` a picture.

    game, spec = ganforge.load("runs/horses"), ganforge.use.spec_of("runs/horses")
    photo = ganforge.use.read_picture("horse.jpg", spec.channels)
    ganforge.use.as_picture(ganforge.use.translate(game, photo)).save("zebra.png")

Every function runs without gradients, and may be called from several threads; where noise is drawn, a seed names the result.
"""

from ganforge.use.conditions import latents_of_class, latents_of_text
from ganforge.use.dials import edit, steer
from ganforge.use.holes import inpaint
from ganforge.use.images import as_picture, read_picture, write_picture
from ganforge.use.load import spec_of
from ganforge.use.seeds import seeded
from ganforge.use.tiles import upscale
from ganforge.use.translation import translate

__all__ = [
    "as_picture",
    "edit",
    "inpaint",
    "latents_of_class",
    "latents_of_text",
    "read_picture",
    "seeded",
    "spec_of",
    "steer",
    "translate",
    "upscale",
    "write_picture",
]
