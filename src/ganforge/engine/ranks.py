"""Several processes at one game: who they are, what they average, what they agree on, and how one learns that another is gone.

Every rank plays the same round on its own share of each batch with its own noise. Nothing is wrapped: gradients are averaged after the
backward of each move, values that a game asks for when it asks, losses when they are logged. `Alone` is the same table for one.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ganforge.engine.buckets import Buckets
from ganforge.errors import RequestError, TrainingError

T = TypeVar("T")
PATIENCE = timedelta(minutes=10)
"""How long a rank waits for the others within a round before it gives them up."""
_OPENING = timedelta(days=2)  # one node may decode a million pictures while another has them cached


class LostRankError(TrainingError):
    """Another process ended or no longer answers."""


class Alone:
    """One process: all averages are its own values."""

    rank = 0
    world = 1

    def mean(self, values: Tensor) -> Tensor:
        """The mean over ranks; no host synchronisation."""
        return values

    def averaging(self, parameters: Sequence[nn.Parameter]) -> AbstractContextManager[None]:  # noqa: ARG002
        """Around the last backward of a move: when the block ends, the gradients of these parameters are averaged, or soon will be."""
        return nullcontext()

    def averaged(self) -> None:
        """Waits for all averages begun."""

    def agree(self, wishes: Sequence[bool]) -> list[bool]:
        """What any rank wished for (a stop, a checkpoint); the same answer everywhere in the same round."""
        return list(wishes)

    def gather(self, value: T) -> list[T]:
        """Everybody's value, by rank, for the first rank; nothing for the others."""
        return [value]

    def shared(self, value: T) -> T:
        """The first rank's value."""
        return value

    def alike(self, module: nn.Module) -> None:
        """Gives everybody the first rank's parameters and buffers."""

    @contextmanager
    def opening(self) -> Iterator[None]:
        """Around what may be refused: where one rank is refused, all raise its error."""
        yield


class Together(Alone):
    """Ranks joined by torch.distributed: NCCL between GPUs, gloo between processors, gloo also for what hosts agree on."""

    def __init__(self, device: torch.device) -> None:
        self.rank, self.world = dist.get_rank(), dist.get_world_size()
        self._device = device
        self._hosts = dist.new_group(backend="gloo", timeout=PATIENCE)
        self._buckets: dict[tuple[int, ...], Buckets] = {}
        self._begun: list[Buckets] = []
        self._asked: tuple[Tensor, dist.Work] | None = None

    def mean(self, values: Tensor) -> Tensor:
        """One all-reduce, enqueued behind what the device is doing."""
        with self._watching():
            total = values.detach().float().clone()
            dist.all_reduce(total)
            return total / self.world

    @contextmanager
    def averaging(self, parameters: Sequence[nn.Parameter]) -> Iterator[None]:
        """Gradients are sent as they come, or when `averaged` is called."""
        key = tuple(map(id, parameters))
        if key not in self._buckets:
            self._buckets[key] = Buckets(parameters, self.world, overlap=self._device.type == "cuda")
        buckets = self._buckets[key]
        self._begun.append(buckets)
        with self._watching(), buckets.launching():
            yield

    def averaged(self) -> None:
        """The averages are then the parameters' gradients."""
        with self._watching():
            for buckets in self._begun:
                buckets.finish()
        self._begun.clear()

    def agree(self, wishes: Sequence[bool]) -> list[bool]:
        """The wishes of the round before: asking costs no wait, as the answer has a whole round to arrive."""
        with self._watching():
            before = self._answer(len(wishes))
            flags = torch.tensor(wishes, dtype=torch.uint8)
            work = dist.all_reduce(flags, dist.ReduceOp.MAX, group=self._hosts, async_op=True)
            self._asked = (flags, work) if work is not None else None
            return before

    def _answer(self, wishes: int) -> list[bool]:
        if self._asked is None:
            return [False] * wishes
        flags, work = self._asked
        work.wait()
        return [bool(flag) for flag in flags.tolist()]

    def gather(self, value: T) -> list[T]:
        """Through the hosts; pickled, but only between the processes of one run."""
        everybody: list[Any] | None = [None] * self.world if self.rank == 0 else None
        with self._watching():
            dist.gather_object(value, everybody, dst=0, group=self._hosts)
        return everybody or []

    def shared(self, value: T) -> T:
        """Through the hosts."""
        box = [value]
        with self._watching():
            dist.broadcast_object_list(box, src=0, group=self._hosts)
        return box[0]

    def alike(self, module: nn.Module) -> None:
        """One broadcast a tensor."""
        with self._watching(), torch.no_grad():
            for tensor in module.state_dict().values():
                # Not in place on strange strides or types that gloo cannot send.
                sent = tensor.detach().contiguous() if tensor.dtype != torch.bool else tensor.detach().to(torch.uint8)
                dist.broadcast(sent, src=0)
                tensor.copy_(sent)

    @contextmanager
    def opening(self) -> Iterator[None]:
        """Waits for everybody; the first rank that was refused says why, and where if not all were."""
        failure: RequestError | None = None
        try:
            yield
        except RequestError as error:
            failure = error
        with self._watching():
            # A barrier of its own patience, as one node may decode pictures while another has them in its cache.
            dist.monitored_barrier(self._hosts, timeout=_OPENING)
            said: list[str | None] = [None] * self.world
            dist.all_gather_object(said, str(failure) if failure else None, group=self._hosts)
        failed = [rank for rank, text in enumerate(said) if text is not None]
        if failure is not None and failed[0] == self.rank:
            where = "" if len(failed) == self.world else f"rank {self.rank} on {socket.gethostname()}: "
            raise RequestError(where + str(failure)) from failure
        if failed:
            raise RefusedElsewhereError(str(said[failed[0]]))

    @contextmanager
    def _watching(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            if isinstance(error, TrainingError) or not _is_about_ranks(error):
                raise
            raise LostRankError(f"rank {self.rank} lost another rank{_last_words()}") from error


class RefusedElsewhereError(RequestError):
    """Refused, as another rank reports."""

    reported = True


_WORDS = "ganforge/last-words"


def announce(error: BaseException) -> None:
    """Leaves a line for the ranks that will miss this one."""
    if dist.is_initialized() and not isinstance(error, LostRankError | RefusedElsewhereError):
        with suppress(Exception):
            store = dist.distributed_c10d._get_default_store()
            store.set(_WORDS, f"rank {dist.get_rank()}: {' '.join(str(error).split()) or type(error).__name__}")


def _last_words() -> str:
    with suppress(Exception):
        store = dist.distributed_c10d._get_default_store()
        store.wait([_WORDS], timedelta(seconds=2))
        return f" ({store.get(_WORDS).decode()})"
    return " (killed, or its machine is gone)"


def _is_about_ranks(error: RuntimeError) -> bool:
    """Torch has one class for NCCL's errors and none for gloo's."""
    signs = ("gloo", "connection", "closed by peer", "nccl", "timed out", "broken pipe", "monitoredbarrier", "socket")
    return isinstance(error, dist.DistError) or any(sign in str(error).lower() for sign in signs)


def expected() -> int:
    """How many processes a launcher such as torchrun says there are."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def leads() -> bool:
    """Whether this process is the first, which writes and speaks."""
    return os.environ.get("RANK", "0") == "0"


def own_device(device: torch.device) -> torch.device:
    """Of several GPUs, the one of this process."""
    if device.type == "cuda" and device.index is None and expected() > 1:
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return device


@contextmanager
def joined(device: torch.device) -> Iterator[Alone]:
    """The table of this run: alone, or with the other processes that the launcher started."""
    if expected() == 1 and not dist.is_initialized():
        yield Alone()
        return
    ours = not dist.is_initialized()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if ours:
        try:
            dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
        except (ValueError, RuntimeError) as error:
            raise RequestError(
                f"WORLD_SIZE={expected()}: the other ranks were not reached ({str(error).splitlines()[0][:200]}); start with torchrun"
            ) from None
    try:
        yield Together(device)
    except BaseException as error:
        announce(error)
        raise
    finally:
        if ours:
            with suppress(Exception):
                dist.destroy_process_group()


def seeded(seed: int, rank: int, round: int = 0) -> int:
    """A seed for the noise of a rank that has no random state of its own yet; the first rank's is the run's."""
    return seed if rank == 0 and round == 0 else (seed * 1_000_003 + rank * 7919 + round * 104_729 + 1) % 2**63


def on_every_rank(act: Callable[[], T], ranks: Alone) -> T:
    """The first rank's result of `act`, which only it computes."""
    return ranks.shared(act() if ranks.rank == 0 else None)  # type: ignore[return-value]
