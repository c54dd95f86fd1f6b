"""Independent readers: small networks, taught on real pictures alone, that say what a game's pictures show."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from ganforge.batches import Attributed, Batch, Captioned, Labelled
from ganforge.errors import TrainingError
from ganforge.files import atomic_write
from ganforge.metrics.extractors import identity_of, resized, weights_hash
from ganforge.metrics.findings import NotMeasuredError
from ganforge.metrics.manifolds import Features, as_features
from ganforge.metrics.material import Part, told

# Part of every key: taught by other rules, the same pictures make another reader.
_RULES = 5
_WIDTH = 32
_FEATURES = 128
_GROUPS = 8
_RATE = 3e-3
_EPOCHS = 8
_BATCH = 64
_STEPS = (150, 1000)
_SHIFT = 2
_TEMPERATURE = 0.1


class Reader(nn.Module):
    """Three convolutions of stride 2 (four of 64 pixels) with group normalisation, 128 features, and a linear layer of so many outputs.

    Pictures come to it as squares of `side` pixels, 16, 32 or 64. Statistics of a training set, as of batch normalisation, would make it
    blind on another domain: taught on MNIST it then reads 13 % of MNIST-M, and so 54 %.
    """

    name = "classifier"

    def __init__(self, channels: int, outputs: int, side: int) -> None:
        super().__init__()
        widths = [channels, *(_WIDTH * 2**i for i in range(3)), *([_WIDTH * 4] if side == 64 else [])]
        layers: list[nn.Module] = []
        for number, (before, after) in enumerate(pairwise(widths)):
            kernel = 3 if number else 5
            layers += [nn.Conv2d(before, after, kernel, 2, kernel // 2, bias=False), nn.GroupNorm(_GROUPS, after), nn.ReLU()]
        self.side = side
        left = side // 2 ** (len(widths) - 1)
        self.trunk = nn.Sequential(*layers, nn.Flatten(), nn.Linear(widths[-1] * left**2, _FEATURES), nn.ReLU())
        self.head = nn.Linear(_FEATURES, outputs)
        self.scale: Tensor
        self.register_buffer("scale", torch.ones(()))

    def forward(self, images: Tensor) -> Tensor:
        """[n, C, side, side] to [n, outputs]."""
        return cast(Tensor, self.head(self.trunk(images)))

    @property
    def about(self) -> str:
        """How pictures are brought to it."""
        return f"pictures in [-1, 1], {self.side}x{self.side}, antialiased bilinear; a network that was taught on real pictures at hand"

    @cached_property
    def identity(self) -> str:
        """Its weights name it, once it is taught."""
        return identity_of(self.name, self.about, weights_hash(self))

    @torch.no_grad()
    def says(self, images: Tensor) -> Tensor:
        """[n, C, H, W] in [-1, 1] to outputs [n, k] on the CPU, a few at a time."""
        return self._told(self, images)

    @torch.no_grad()
    def probabilities(self, images: Tensor) -> Features:
        """[n, C, H, W] in [-1, 1] to the probabilities of classes, [n, k], of one that was taught classes."""
        return as_features(self.says(images).softmax(dim=1))

    @torch.no_grad()
    def features(self, images: Tensor) -> Features:
        """[n, C, H, W] in [-1, 1] to its last hidden layer, [n, 128], of which the mean square is 1 over what it was taught on."""
        return as_features(self._told(lambda shown: self.trunk(shown) * self.scale, images))

    def _told(self, of: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        return told(lambda chunk: of(resized(chunk.float(), (self.side, self.side))), images, self.scale.device)


Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class _Subject:
    """What is taught: the batches it is read from, the field that is the answer, and, of all answers, the loss of outputs against one."""

    kind: type[Batch]
    field: str
    loss: Callable[[Tensor], Loss]
    side: int


def _yes_or_no(answers: Tensor) -> Loss:
    """Yes counts as much as no in all, however rare it is."""
    share = answers.mean(dim=0).clamp(0.01, 0.99)

    def loss(outputs: Tensor, attributes: Tensor) -> Tensor:
        weights = attributes / share + (1 - attributes) / (1 - share)
        return F.binary_cross_entropy_with_logits(outputs, attributes, weights / 2)

    return loss


def _which_text(outputs: Tensor, texts: Tensor) -> Tensor:
    """Each picture finds its text among those of the batch; of equal texts none is wrong."""
    logits = F.normalize(outputs, dim=1) @ F.normalize(texts, dim=1).T / _TEMPERATURE
    alike = (texts[:, None] == texts[None]).all(dim=2).float()
    return F.cross_entropy(logits, alike / alike.sum(dim=1, keepdim=True))


_REMEMBERED = 8
_recent: dict[str, Reader] = {}
"""The readers that were asked for last: those of arrays are kept nowhere else."""

_SUBJECTS = {
    "classes": _Subject(Labelled, "label", lambda _: F.cross_entropy, 32),
    "attributes": _Subject(Attributed, "attribute", _yes_or_no, 64),
    "texts": _Subject(Captioned, "text", lambda _: _which_text, 64),
}


def reader_of(subject: str, part: Part, outputs: int) -> Reader:
    """A reader of the "classes", "attributes" or "texts" of these pictures, always the same one: what it learned is kept in the cache.

    About 99 % right on MNIST and 57 % on CIFAR-10 from 10,000 pictures, in 20 to 30 seconds of one core. The random state is left
    as it was.
    """
    facts = (_RULES, torch.__version__, subject, outputs, part.source.spec, part.fingerprint)
    key = hashlib.sha256(repr(facts).encode()).hexdigest()
    if key in _recent:
        return _recent[key]
    taught = _SUBJECTS[subject]
    spec = part.source.spec
    side = min(taught.side, _side(spec.shape))
    if len(part) < 2:
        raise NotMeasuredError(f"data {part.source.name!r}: a reader of {subject} needs 2 pictures or more")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        reader = Reader(spec.shape[0], outputs, side)
        path = part.cache / f"reader-{key}.safetensors" if part.cache and part.fingerprint else None
        if path is None or not _loaded(reader, path):
            images, answers = _gathered(part.batches(taught.kind), taught.field, side)
            _teach(reader, images, answers, taught.loss(answers))
            if path is not None:
                # Without a cache it is taught again next time.
                with suppress(OSError), atomic_write(path) as temporary:
                    save_file(reader.state_dict(), temporary)
    reader.eval().requires_grad_(False)
    if part.fingerprint:
        _recent[key] = reader
        if len(_recent) > _REMEMBERED:
            del _recent[next(iter(_recent))]
    return reader


def taught_on(images: Tensor, labels: Tensor, outputs: int) -> Reader:
    """A reader of classes taught on these pictures, [n, C, H, W] in [-1, 1] with [n], which are not kept."""
    side = min(32, _side(images.shape[1:]))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        reader = Reader(images.shape[1], outputs, side)
        _teach(reader, resized(images, (side, side)), labels, F.cross_entropy)
    return reader.eval().requires_grad_(False)


def _side(shape: Sequence[int]) -> int:
    """The size at which pictures of this shape, (channels, height, width), are read."""
    shorter = min(shape[1:])
    return 16 if shorter <= 16 else 64 if shorter >= 64 else 32


def _teach(reader: Reader, images: Tensor, answers: Tensor, loss: Loss) -> None:
    """Eight epochs, or as many as 150 steps take, and 1,000 steps at most; pictures are shifted by up to 2 pixels."""
    size = min(_BATCH, len(images))
    steps = min(max(_STEPS[0], _EPOCHS * len(images) // size), _STEPS[1])
    optimiser = torch.optim.AdamW(reader.parameters(), lr=_RATE, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, _RATE, steps)
    reader.train()
    with torch.enable_grad():
        for chosen in _in_batches(len(images), size, steps):
            shifts = torch.randint(-_SHIFT, _SHIFT + 1, (2,)).tolist()
            shifted = images[chosen].roll(shifts, (2, 3))
            value = loss(reader(shifted), answers[chosen])
            optimiser.zero_grad()
            value.backward()
            optimiser.step()
            schedule.step()
    reader.eval().requires_grad_(False)
    power = float((reader.features(images) ** 2).mean())
    if not math.isfinite(power):
        raise TrainingError(f"the independent reader of {len(images)} real pictures has diverged; they hold values that are no numbers")
    reader.scale.fill_((power + 1e-12) ** -0.5)


def _in_batches(count: int, size: int, steps: int) -> Iterable[Tensor]:
    """`steps` batches of `size`, epoch after epoch in a new order, what is left of an epoch left out."""
    each = count // size
    for epoch in range(-(-steps // each)):
        yield from torch.randperm(count).split(size)[: min(each, steps - epoch * each)]


def _gathered(batches: Iterable[Batch], field: str, side: int) -> tuple[Tensor, Tensor]:
    images, answers = [], []
    for batch in batches:
        images.append(resized(batch.x, (side, side)))
        answers.append(batch.tensors()[field])
    return torch.cat(images), torch.cat(answers)


def _loaded(reader: Reader, path: Path) -> bool:
    """Whether what is kept there is a whole reader, which `reader` then is."""
    try:
        reader.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError):
        return False
    return True
