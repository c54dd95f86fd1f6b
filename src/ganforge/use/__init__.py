"""What one does with a trained game, on tensors: `ganforge.load(run)` gives the game, `read_picture` a tensor, `as_picture` a picture.

    game, spec = ganforge.load("runs/horses"), ganforge.use.spec_of("runs/horses")
    photo = ganforge.use.read_picture("horse.jpg", spec.channels)
    ganforge.use.as_picture(ganforge.use.translate(game, photo)).save("zebra.png")

Every function runs without gradients, and may be called from several threads; where noise is drawn, a seed names the result.
"""

from ganforge.use.card import card
from ganforge.use.conditions import latents_of_class, latents_of_text, noise_columns, normal_columns, truncated
from ganforge.use.dials import edit, steer
from ganforge.use.directions import directions, learn_directions
from ganforge.use.export import export
from ganforge.use.holes import inpaint
from ganforge.use.images import as_picture, read_picture, write_picture
from ganforge.use.interpolate import latents_of_seeds, path_between
from ganforge.use.latents import read_latents, write_latents
from ganforge.use.load import spec_of
from ganforge.use.nearest import extractor_for, nearest, open_collection
from ganforge.use.project import project
from ganforge.use.publish import publish
from ganforge.use.seeds import seeded
from ganforge.use.tiles import upscale
from ganforge.use.translation import translate

__all__ = [
    "as_picture",
    "card",
    "directions",
    "edit",
    "export",
    "extractor_for",
    "inpaint",
    "latents_of_class",
    "latents_of_seeds",
    "latents_of_text",
    "learn_directions",
    "nearest",
    "noise_columns",
    "normal_columns",
    "open_collection",
    "path_between",
    "project",
    "publish",
    "read_latents",
    "read_picture",
    "seeded",
    "spec_of",
    "steer",
    "translate",
    "truncated",
    "upscale",
    "write_latents",
    "write_picture",
]
