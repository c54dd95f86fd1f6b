"""Several processes at one game: who they are, what they average, what they agree on, and how one learns that another is gone.

Every rank plays the same round on its own share of each batch with its own noise. Nothing is wrapped: gradients are averaged after the
backward of each move, values that a game asks for when it asks, losses when they are logged. `Alone` is the same table for one.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from datetime import timedelta
from itertools import count
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

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

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Within the block what torch says of a rank that is gone is a LostRankError."""
        yield


class Together(Alone):
    """Ranks joined by torch.distributed: NCCL between GPUs, gloo between processors, gloo also for what hosts agree on."""

    def __init__(self, device: torch.device) -> None:
        self.rank, self.world = dist.get_rank(), dist.get_world_size()
        self._device = device
        self._hosts = dist.new_group(backend="gloo", timeout=PATIENCE)
        self._doors = dist.new_group(backend="gloo", timeout=_OPENING)
        self._buckets: dict[tuple[int, ...], Buckets] = {}
        self._begun: list[Buckets] = []
        self._asked: tuple[Tensor, dist.Work] | None = None

    def leave(self) -> None:
        """Closes the connections that are this table's own."""
        for group in (self._hosts, self._doors):
            dist.destroy_process_group(group)

    def mean(self, values: Tensor) -> Tensor:
        """One all-reduce, enqueued behind what the device is doing."""
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
        with buckets.launching():
            yield

    def averaged(self) -> None:
        """The averages are then the parameters' gradients."""
        for buckets in self._begun:
            buckets.finish()
        self._begun.clear()

    def agree(self, wishes: Sequence[bool]) -> list[bool]:
        """The wishes of the round before: asking costs no wait, as the answer has a whole round to arrive."""
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
        dist.gather_object(value, everybody, dst=0, group=self._hosts)
        return everybody or []

    def shared(self, value: T) -> T:
        """Through the hosts."""
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self._hosts)
        return box[0]

    def alike(self, module: nn.Module) -> None:
        """One broadcast a tensor."""
        with torch.no_grad():
            for tensor in module.state_dict().values():
                # Not in place on strange strides or types that gloo cannot send.
                sent = tensor.detach().contiguous() if tensor.dtype != torch.bool else tensor.detach().to(torch.uint8)
                dist.broadcast(sent, src=0)
                tensor.copy_(sent)

    @contextmanager
    def opening(self) -> Iterator[None]:
        """Waits for everybody; the first rank says what the first that was refused has to say, and where if not all were."""
        failure: RequestError | None = None
        try:
            yield
        except RequestError as error:
            failure = error
        said: list[tuple[str, str] | None] = [None] * self.world
        dist.all_gather_object(said, (socket.gethostname(), str(failure)) if failure else None, group=self._doors)
        failed = [(rank, *each) for rank, each in enumerate(said) if each is not None]
        if failed:
            rank, host, text = failed[0]
            where = "" if len(failed) == self.world else f"rank {rank} on {host}: "
            raise (RefusedElsewhereError if self.rank else RequestError)(where + text) from failure

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Waits up to two seconds for what the lost rank may have left to say."""
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
_runs = count()


def announce(error: BaseException) -> None:
    """Leaves a line for the ranks that will miss this one."""
    if dist.is_initialized() and not isinstance(error, LostRankError | RefusedElsewhereError):
        with suppress(Exception):
            store = dist.distributed_c10d._get_default_store()
            store.set(_WORDS, f"rank {dist.get_rank()}: {' '.join(str(error).split()) or type(error).__name__}")


def _last_words() -> str:
    with suppress(Exception):
        store, until = dist.distributed_c10d._get_default_store(), time.monotonic() + 2
        # Not by store.wait(), which prints warnings of its own.
        while not store.check([_WORDS]) and time.monotonic() < until:
            time.sleep(0.05)
        if store.check([_WORDS]):
            return f" ({store.get(_WORDS).decode()})"
    return " (killed, or its machine is gone)"


def _is_about_ranks(error: RuntimeError) -> bool:
    """Torch has one class for NCCL's errors and none for gloo's."""
    return isinstance(error, dist.DistError) or any(library in str(error).lower() for library in ("gloo", "nccl"))


def expected() -> int:
    """How many processes a launcher such as torchrun says there are."""
    said = os.environ.get("WORLD_SIZE") or "1"
    if not said.isdecimal():
        raise RequestError(f"WORLD_SIZE={said}: must be the number of processes; unset it, or start with torchrun")
    return int(said)


def leads() -> bool:
    """Whether this process is the first, which writes and speaks."""
    return expected() == 1 or os.environ.get("RANK", "0") == "0"


def own_device(device: torch.device) -> torch.device:
    """Of several GPUs, the one of this process. RequestError where there are more processes than GPUs on this machine."""
    if device.type != "cuda" or device.index is not None or expected() == 1:
        return device
    here, gpus = int(os.environ.get("LOCAL_WORLD_SIZE", "1")), torch.cuda.device_count()
    if here > gpus:
        raise RequestError(f"{here} processes on a machine with {gpus} GPUs; start one for each GPU, or give --device cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


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
            store, rank, world = next(rendezvous("env://", timeout=PATIENCE))
            # A second run of the same processes must not find where the ranks of the first one were.
            store = PrefixStore(f"run-{next(_runs)}", store)
            backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
            dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=PATIENCE)
        except (ValueError, RuntimeError) as error:
            raise RequestError(
                f"WORLD_SIZE={expected()}: the other ranks were not reached ({str(error).splitlines()[0][:200]}); start with torchrun"
            ) from None
    ranks = Together(device)
    try:
        with ranks.watching():
            yield ranks
    except BaseException as error:
        announce(error)
        raise
    finally:
        with suppress(Exception):
            ranks.leave()
            if ours:
                dist.destroy_process_group()


def seeded(seed: int, rank: int, round: int = 0) -> int:
    """A seed for the noise of a rank that has no random state of its own yet; the first rank's is the run's."""
    return seed if rank == 0 and round == 0 else (seed * 1_000_003 + rank * 7919 + round * 104_729 + 1) % 2**63
