"""Augments what a game's judging networks see while it plays, real pictures and generated ones; no game has code for it.

The networks are found by watching `game.judge` at work, and reached by forward hooks. What calls `network.forward`, as penalties do, passes
the hooks by: a penalty is taken at the pictures themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ganforge.augmentations import POLICIES, ada, adapted, diff_augment
from ganforge.batches import Batch, ImageSpec, Spec
from ganforge.capabilities import judge
from ganforge.errors import RequestError, TrainingError
from ganforge.game import Game

Kind = Literal["diffaugment", "ada"]

INTERVAL = 4
"""Rounds between two moves of ADA's p, as in NVlabs/stylegan2-ada-pytorch (there, batches)."""


class Augmenter(nn.Module):
    """Puts an augmentation before the networks by which `game` judges pictures. It acts on them in training mode, within `playing`.

    `networks` holds their names in the game. Its own state, which a checkpoint must keep with the game's, is `state_dict()`: ADA's `p`,
    and what was seen since p last moved. Nothing of it is in the game's. `policy` is that of `diff_augment`; ADA has none.

    ADA's rule needs logits: scores of which the sign says real or generated. A Wasserstein critic's zero says nothing.

    RequestError where the data are no pictures, the game has no `judge`, or the networks cannot be found or (ADA) give no logits.
    """

    p: Tensor
    signs: Tensor
    scored: Tensor
    images: Tensor

    def __init__(self, game: Game, spec: Spec, kind: Kind, policy: tuple[str, ...] = tuple(POLICIES)) -> None:
        super().__init__()
        self.kind, self.policy = kind, policy
        self.active = False
        for name in ("p", "signs", "scored", "images"):
            self.register_buffer(name, torch.zeros((), device=game.device))
        self._real: list[Tensor] = []
        self._augmented_real: Tensor | None = None
        self._judged = self._heard = False
        self._deaf_rounds = 0
        found = _judging_networks(game, spec)
        self.networks = tuple(found)
        diff_augment(torch.zeros(0, 1, 1, 1), policy)  # An unknown name is refused here, not in the first round.
        for name, (_, answer) in found.items():
            if kind == "ada" and not _are_logits(answer):
                raise RequestError(
                    f"--augment ada: {name} of {type(game).__name__} answers 2 pictures with {_described(answer)}; its rule needs logits, "
                    "[2], [2, 1] or patches [2, 1, h, w]; --augment diffaugment needs none"
                )
        for network, _ in found.values():
            network.register_forward_pre_hook(self._before)
            network.register_forward_hook(self._after)

    @contextmanager
    def playing(self) -> Iterator[None]:
        """Within the block a round is played: calls in training mode see augmented pictures."""
        self.active = True
        try:
            yield
        finally:
            self.active = False
            self._real.clear()
            self._augmented_real = None

    def note_real(self, batch: Batch) -> None:
        """The pictures of this batch were served as real ones in this round: ADA listens to what is said of them."""
        if self.kind == "ada":
            self._real += batch.tensors().values()

    def end_round(self, number: int, images: int, average: Callable[[Tensor], Tensor] = lambda values: values) -> None:
        """After round `number`, counted from 1, in which `images` samples were served on all ranks; every fourth round p moves.

        `average` is the mean over the ranks, of a tensor of any shape: p stays the same on all. TrainingError where in four rounds
        pictures were judged and none was one that had been served.
        """
        if self.kind != "ada":
            return
        self.images += images
        self._deaf_rounds += self._judged and not self._heard
        self._judged = False
        if self._deaf_rounds == INTERVAL:
            raise TrainingError(
                f"round {number}: --augment ada needs the scores of real pictures, but {', '.join(self.networks)} was given none as it was "
                "served (alone in its batch, unchanged); use --augment diffaugment"
            )
        if number % INTERVAL:
            return
        signs, scored = average(torch.stack([self.signs, self.scored]))
        moved = adapted(self.p, signs / scored, self.images)
        # A phase in which nothing real is judged, as a pre-training, leaves p where it is.
        self.p.copy_(torch.where(scored > 0, moved, self.p))
        for total in (self.signs, self.scored, self.images):
            total.zero_()

    def _before(self, network: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if not (self.active and network.training):
            return None
        if not args:
            raise TrainingError(
                f"{type(network).__name__} was called without a positional argument; pass the pictures to augment as the first"
            )
        self._judged = True
        pictures = args[0]
        augmented = ada(pictures, self.p) if self.kind == "ada" else diff_augment(pictures, self.policy)
        if any(pictures is real for real in self._real):
            self._augmented_real = augmented
        return augmented, *args[1:]

    def _after(self, _network: nn.Module, args: tuple[Any, ...], answer: Tensor) -> None:
        if args and args[0] is self._augmented_real:
            self._heard = True
            self.signs += answer.detach().float().sign().reshape(len(answer), -1).mean(1).sum()
            self.scored += len(answer)


def _judging_networks(game: Game, spec: Spec) -> dict[str, tuple[nn.Module, object]]:
    """The outermost modules to which `game.judge` gives its pictures as they are, by name, each with what it answered to two of them."""
    name = type(game).__name__
    if not isinstance(spec, ImageSpec):
        raise RequestError(f"--augment: the data are {spec}; only pictures are augmented")
    critic = judge(game)
    if critic is None:
        raise RequestError(f"--augment: {name} has no judge(x), the method by which the networks to augment for are found")
    with _at_rest(game):
        noise = 2 * torch.rand(2, *spec.shape, device=game.device) - 1
        torch.manual_seed(0)
        plain_score = critic.judge(noise)
        probe = torch.zeros_like(noise)
        found: dict[str, tuple[nn.Module, object]] = {}
        names = {module: path for path, module in game.named_modules() if path}

        def enter(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
            if not args or args[0] is not probe:
                return None
            found[names[module]] = module, None
            # Its own submodules no longer see the probe, so that only the outermost are found.
            return noise, *args[1:]

        def leave(module: nn.Module, _args: tuple[Any, ...], answer: object) -> None:
            if names[module] in found:
                found[names[module]] = module, answer

        handles = [handle for module in names for handle in (module.register_forward_pre_hook(enter), module.register_forward_hook(leave))]
        try:
            torch.manual_seed(0)
            swapped_score = critic.judge(probe)
        finally:
            for handle in handles:
                handle.remove()
    if not found:
        raise RequestError(
            f"--augment: judge(x) of {name} gives no network x itself as the first argument; there is nothing to augment for"
        )
    # A judge that sees the picture elsewhere too, as an auto-encoder's error does, would compare an augmented picture with the plain one.
    if not torch.allclose(swapped_score, plain_score, rtol=1e-3, atol=1e-6, equal_nan=True):
        raise RequestError(
            f"--augment: judge(x) of {name} uses x besides what it gives to {', '.join(found)}, which alone can be augmented"
        )
    return found


@contextmanager
def _at_rest(game: Game) -> Iterator[None]:
    """Within the block the game is in evaluation mode, without gradients; afterwards modes and random state are as they were."""
    training = [module for module in game.modules() if module.training]
    with torch.random.fork_rng([game.device] if game.device.type == "cuda" else []), torch.no_grad():
        game.eval()
        try:
            yield
        finally:
            for module in training:
                module.training = True


def _are_logits(answer: object) -> bool:
    return isinstance(answer, Tensor) and answer.ndim in (1, 2, 4) and (answer.ndim == 1 or answer.shape[1] == 1)


def _described(answer: object) -> str:
    return str(list(answer.shape)) if isinstance(answer, Tensor) else f"a {type(answer).__name__}"
