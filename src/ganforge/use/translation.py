"""A picture's counterpart in another domain."""

from __future__ import annotations

import torch
from torch import Tensor

from ganforge.capabilities import Translates, able
from ganforge.errors import RequestError
from ganforge.game import Game
from ganforge.use.seeds import seeded


def translate(game: Game, image: Tensor, way: str | None = None, seed: int = 0, n: int = 1) -> Tensor:
    """[1, C, H, W] to [n, C, H, W]: `n` answers, which differ where the game draws from many; `way` None is its usual one.

    Each answer is computed by itself, so that a picture may be as large as memory allows and the first does not depend on `n`.
    RequestError where the game does not translate, or not this way.
    """
    translator, way = able(game, Translates), chosen_way(game, way)
    with torch.no_grad(), seeded(seed, game.device):
        return torch.cat([translator.translate(image.to(game.device), way).float() for _ in range(n)])


def chosen_way(game: Game, way: str | None) -> str:
    """The way asked for, or the game's usual one; RequestError where it has no such."""
    ways = able(game, Translates).ways
    if way is not None and way not in ways:
        raise RequestError(f"--way {way}: this game goes {' or '.join(ways)}")
    return ways[0] if way is None else way
