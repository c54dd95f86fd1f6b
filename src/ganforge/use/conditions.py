"""Latents: any, or of what is asked for, a class or a text; within `seeded` a seed names them."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ganforge.batches import ImageSpec, Spec
from ganforge.capabilities import Samples, SamplesClasses, SamplesText, able
from ganforge.data.text import load_encoder
from ganforge.errors import RequestError
from ganforge.game import Game
from ganforge.use.seeds import seeded

_DRAWS, _MANY = 64, 4096


def class_number(asked: str, classes: Sequence[str]) -> int:
    """The number of the class of this name, or else the number itself; RequestError, with the nearest name, where there is none."""
    if asked in classes:
        return classes.index(asked)
    if asked.isdecimal() and int(asked) < len(classes):
        return int(asked)
    near = [] if asked.isdecimal() else difflib.get_close_matches(asked, classes, n=1, cutoff=0.5)
    known = f"did you mean {near[0]!r}?" if near else f"the classes are {', '.join(classes[:20])}{', ...' if len(classes) > 20 else ''}"
    raise RequestError(f"--class {asked}: is none of the run's {len(classes)} classes, by name or by number from 0; {known}")


def latents(game: Game, n: int) -> Tensor:
    """`n` latents from the prior, [n, ...]; where the game's samples have a condition, a random one is part of each."""
    with torch.no_grad():
        return able(game, Samples).latent(n)


def latents_of_class(game: Game, number: int, n: int) -> Tensor:
    """`n` latents of the class of this number, [n, ...]; the same noise for every class, from the same random state."""
    sampler = able(game, SamplesClasses)
    with torch.no_grad():
        return sampler.latent_of_class(torch.full((n,), number, device=game.device))


def latents_of_text(game: Game, text: str, encoder: Path, n: int, spec: Spec | None = None) -> Tensor:
    """`n` latents of a sentence, [n, ...]. `encoder` is the file beside the run (`RunFolder.text`), `spec` what the game was made for.

    RequestError where the game reads no text, the file is of another run, or the captions of the run had none of the words.
    """
    sampler = able(game, SamplesText)
    vector = torch.from_numpy(load_encoder(encoder).encode([text]))
    if isinstance(spec, ImageSpec) and spec.text and vector.shape[1] != spec.text:
        raise RequestError(f"{encoder}: makes {vector.shape[1]} numbers of a text, the game reads {spec.text}; it is of another run")
    if not vector.any():
        raise RequestError(f"--text {text!r}: none of these words is in the captions that the run was trained on")
    with torch.no_grad():
        return sampler.latent_of_text(vector.to(game.device).expand(n, -1))


def noise_columns(game: Game, spec: Spec) -> Tensor:
    """Which numbers of a latent are noise, [k] of bool; the others say what is asked for: a class, a text, a code of few values.

    Told from draws: nearly all values of noise differ, also where the same text is asked for.
    """
    return torch.tensor([len(column.unique()) > _DRAWS // 2 for column in _drawn(game, spec, _DRAWS).T])


def normal_columns(game: Game, spec: Spec) -> Tensor:
    """Which numbers of a latent are normal noise around 0, [k] of bool: those that a turn of the sphere leaves as likely as before.

    Told from draws, by their kurtosis: 3 of normal noise, 1.8 of uniform.
    """
    noise, drawn = noise_columns(game, spec), _drawn(game, spec, _MANY).cpu().double()
    mean, spread = drawn.mean(0), drawn.std(0)
    kurtosis = ((drawn - mean) ** 4).mean(0) / spread**4
    # Of so many draws of normal noise the kurtosis strays by 0.4 at most, and the mean by a tenth of its spread.
    return noise & (kurtosis > 2.4) & (kurtosis < 3.6) & (mean.abs() < 0.1 * spread)


def truncated(game: Game, spec: Spec, latent: Tensor, truncation: float) -> Tensor:
    """The latents, [n, ...], with their noise drawn towards its mean: 1 leaves it, 0 is the mean; what is asked for stays as it is.

    As StyleGAN's psi (arXiv:1812.04948, appendix B), but of the latent itself. BigGAN draws normal noise anew until it lies within bounds
    (arXiv:1809.11096, section 3.1), which makes other samples of a seed, and means nothing where noise is uniform.
    """
    if not 0 <= truncation <= 1:
        raise RequestError(f"--truncation {truncation:g}: goes from 0, the mean, to 1, none")
    if truncation == 1:
        return latent
    flat = latent.flatten(1)
    noise, mean = noise_columns(game, spec).to(flat.device), _drawn(game, spec, _MANY).mean(0).to(flat.device)
    return torch.where(noise, mean + truncation * (flat - mean), flat).reshape(latent.shape)


def _drawn(game: Game, spec: Spec, n: int) -> Tensor:
    """`n` latents, [n, k], of the same text where the game reads texts; always the same ones."""
    with torch.no_grad(), seeded(0, game.device):
        if isinstance(game, SamplesText) and isinstance(spec, ImageSpec) and spec.text:
            return game.latent_of_text(torch.ones(n, spec.text, device=game.device)).flatten(1)
        return able(game, Samples).latent(n).flatten(1)
