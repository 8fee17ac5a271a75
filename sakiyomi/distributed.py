"""Several processes that train together, as torchrun starts them: one a GPU, or one a share of the processor's cores.

    torchrun --nproc-per-node 4 -m sakiyomi train pick
    torchrun --nproc-per-node 4 --max-restarts 3 -m sakiyomi train pick

A step's batch is drawn in shards, each with its own noise. Process r of N works through shards r, r + N, ...; gradients
are summed over all. So N processes learn what one does with as many shards. The first process writes and speaks for
all. A process that was started alone is a team of one, and nothing here costs it anything.

Where a process is lost torchrun starts all anew (--max-restarts), and they go on from the last checkpoint; not after an
error that somebody has to mend. Where torchrun is lost they save and stop.
"""

import atexit
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from warnings import catch_warnings, simplefilter

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import GradBucket, PrefixStore, Store  # pyright: ignore[reportPrivateImportUsage]
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from sakiyomi.errors import SakiyomiError
from sakiyomi.run import Interrupted, Moments, console, local_part, moments_here, pick_device, weights_of

PATIENCE = timedelta(minutes=10)  # for another process; longer, and it hangs
LOOK = 0.2  # s between two looks whether the first process is done


@dataclass(frozen=True)
class Team:
    """The processes of one training, seen from one of them."""

    rank: int = 0
    """Which one this is; 0 is the first."""
    size: int = 1
    """How many they are."""
    local_rank: int = 0
    """Which one on this machine."""
    local_size: int = 1
    """How many on this machine."""
    launcher: int = 0
    """The process id of this machine's torchrun; 0 where there is none."""
    restarts: int = 0
    """So often torchrun has started them anew, after one was lost."""
    store: Store | None = None
    """Where they leave each other word."""

    @property
    def first(self) -> bool:
        """Whether this is the one that writes and speaks."""
        return self.rank == 0

    @property
    def abandoned(self) -> bool:
        """torchrun was lost (kill -9), which would stop these and start them anew."""
        return self.launcher > 0 and os.getppid() != self.launcher

    def any(self, here: bool) -> bool:
        """Whether it is true in any of them."""
        # Between hosts: a number on a GPU would have to be waited for.
        return bool(self.total(torch.tensor(float(here)))) if self.size > 1 else here

    def wait(self) -> None:
        """Until all have come this far."""
        if self.size > 1:
            self.total(torch.zeros(1))

    def total(self, here: Tensor) -> Tensor:
        """The sum over all processes."""
        if self.size == 1:
            return here
        there = here.clone()
        dist.all_reduce(there)
        return there

    def rows(self, count: int, row: Callable[[int], Tensor]) -> Tensor:
        """row(0) .. row(count - 1), each [K] and worked out by one of the processes: [count, K] on the host, for all of
        them."""
        mine = range(self.rank, count, self.size)
        found = torch.stack([row(number) for number in mine]).cpu() if len(mine) else torch.zeros(0, 0)
        if self.size == 1:
            return found
        widths = torch.zeros(self.size, dtype=torch.int64)
        widths[self.rank] = found.shape[1]
        whole = torch.zeros(count, int(self.total(widths).max()), dtype=torch.float64)
        whole[self.rank :: self.size, : found.shape[1]] = found.double()
        return self.total(whole)  # each row is one process's, and 0 of the others: exact

    def once(self, name: str, work: Callable[[], None]) -> None:
        """Let the first process do something, however long it takes, while the others wait. Each has its own `name`."""
        if self.store is None or self.first:
            work()
            if self.store is not None:
                self.store.set(name, "done")
            return
        while not self.store.check([name]):
            if self.store.check(["ended"]):  # the first one has told why
                raise SystemExit(1)
            time.sleep(LOOK)

    def device(self, name: str) -> torch.device:
        """`pick_device`, and of several GPUs the one of this process. Raises SakiyomiError where there are too few."""
        device = pick_device(name)
        if device.type == "cpu" or self.size == 1:
            return device
        if device.index is not None:
            raise SakiyomiError(f"--train.device {name} is one GPU for {self.size} processes; use --train.device cuda")
        if self.local_size > torch.cuda.device_count():
            raise SakiyomiError(
                f"{self.local_size} processes on this machine, which has {torch.cuda.device_count()} GPU(s); start one "
                "a GPU (torchrun --nproc-per-node), or use --train.device cpu"
            )
        torch.cuda.set_device(self.local_rank)
        return torch.device("cuda", self.local_rank)


ALONE = Team()

_joined: list[Team] = []  # the team of this process while there is one: a process is in one at most


@contextmanager
def joined() -> Iterator[Team]:
    """The team of this process, for as long as the context lasts: those that torchrun has started, or it alone.

    Where one of them fails, all end, and one says why: the others raise SystemExit. Raises SakiyomiError where one
    was lost without a word.
    """
    alone = os.environ.get("WORLD_SIZE", "1") == "1" and "TORCHELASTIC_RUN_ID" not in os.environ
    if _joined or alone:
        yield _joined[-1] if _joined else ALONE
        return
    _joined.append(_meet())
    team, console.quiet = _joined[-1], not _joined[-1].first
    try:
        yield team
        dist.destroy_process_group()
    except Exception as error:
        # Not said good-bye to: the others may be gone, and the process ends anyway.
        told = _told_once(team, error)
        if told is error:
            raise
        raise told from error
    finally:
        _joined.clear()
        console.quiet = False


def _meet() -> Team:
    number = {name: int(os.environ.get(name, fallback)) for name, fallback in _PLACE.items()}
    try:
        store, rank, size = next(rendezvous("env://", timeout=PATIENCE))
    except ValueError as error:
        raise SakiyomiError(f"WORLD_SIZE is set, but {error}; start with torchrun, or unset WORLD_SIZE") from error
    restarts = number["TORCHELASTIC_RESTART_COUNT"]
    # torchrun may keep its store, where those it started before have left the addresses they had.
    store = PrefixStore(f"start {restarts}", store)
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=PATIENCE)
    words = PrefixStore("sakiyomi", store)
    launcher = os.getppid() if "TORCHELASTIC_RUN_ID" in os.environ else 0
    return Team(rank, size, number["LOCAL_RANK"], number["LOCAL_WORLD_SIZE"], launcher, restarts, words)


_PLACE = {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1", "TORCHELASTIC_RESTART_COUNT": "0"}


def _told_once(team: Team, error: Exception) -> BaseException:
    """What this process raises in place of `error`, so that one of all that fail speaks."""
    status = error.status if isinstance(error, SakiyomiError) else 1
    if isinstance(error, Interrupted):  # all of them are, at the same step
        return error if team.first else SystemExit(status)
    try:
        assert team.store is not None
        if team.store.add("ended", 1) > 1:
            return SystemExit(status)
    except RuntimeError:  # the store is gone with the process that kept it
        pass
    if isinstance(error, SakiyomiError) and team.restarts < int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0")):
        atexit.register(_end_torchrun, team)  # once this has been said
    if isinstance(error, RuntimeError) and any(word in str(error) for word in ("gloo", "Gloo", "NCCL", "TCPStore")):
        return SakiyomiError(
            "another process of this training was lost without a word (killed? out of memory?), or has not answered "
            f"for {PATIENCE.seconds // 60} minutes; what was written before is whole. Go on: the same command with "
            "--resume (torchrun --max-restarts does so by itself)"
        )
    return error


def _end_torchrun(team: Team) -> None:
    """Or it would start all anew, and what is to be mended would come again. On several machines the others' would wait
    for this one's."""
    if team.launcher and not team.abandoned and team.local_size == team.size:
        os.kill(team.launcher, signal.SIGTERM)


def shards_of(asked: int, before: int | None, size: int) -> int:
    """In how many shards a batch is drawn by `size` processes: as many as `asked`; where that is 0 as many as `before`,
    by those that began this training, or one a process. As it is written down: 0 is 1, by one process.

    A training keeps its number, since its noise hangs on it: with another number it would not be the same training.
    Raises SakiyomiError where `size` processes cannot share them evenly.
    """
    begun = before is not None
    shards = asked or (before if begun else 0 if size == 1 else size) or 0
    if max(1, shards) % size == 0:
        return shards
    fits = [str(n) for n in range(1, shards + 1) if shards % n == 0] or ["1"]
    anew = f"start anew (--out) with --train.shards {size}" if begun else f"ask for --train.shards {size}"
    raise SakiyomiError(
        f"batches are drawn in {max(1, shards)} shard(s) (--train.shards), which {size} processes cannot share evenly; "
        f"take a number of processes that divides it ({', '.join(fits)}), or {anew} or a multiple of it"
    )


# ---- Gradients -------------------------------------------------------------------------------------------------------


class Called(nn.Module):
    """DDP calls `forward`, and our models are called by `loss` and `frames`: this one calls what it is given."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, total: Callable[[], Tensor]) -> Tensor:
        return total()


class Replica:
    """The model of one process, and how its gradients come together with those of the others."""

    def __init__(self, model: nn.Module, team: Team = ALONE, shards: int = 1) -> None:
        """`shards` in all, which must be a multiple of the team's size."""
        self.model, self.team, self.shards = model, team, shards
        called = Called(model)
        self._called: nn.Module = called
        if team.size > 1:
            # What a step does not reach, such as a network that only a loss of weight 0 needs, is not waited for.
            with catch_warnings():
                simplefilter("ignore", FutureWarning)  # newer torch has another name for `broadcast_buffers`
                replicas = DistributedDataParallel(
                    called, broadcast_buffers=False, find_unused_parameters=True, gradient_as_bucket_view=True
                )
            replicas.register_comm_hook(None, _summed)
            self._called = replicas

    @property
    def mine(self) -> range:
        """The numbers of this process's shards."""
        return range(self.team.rank, self.shards, self.team.size)

    def add_gradients(self, totals: Sequence[Callable[[], Tensor]]) -> None:
        """Leave in every process the gradients of the sum over all shards. `totals` work out those of this process's,
        one after the other: the activations of one are in memory at a time.

        Every shard finds the statistics of BatchNorm as they were before; afterwards they are the mean of what each
        made of them.
        """
        before = self._statistics()
        made = torch.zeros_like(before)
        for number, total in enumerate(totals):
            # Sent with the last one, bucket by bucket, while its backward pass goes on.
            with nullcontext() if number + 1 == len(totals) else self._unsent():
                self._called(total).backward()
            if self._buffers:
                made += self._statistics()
                self._set_statistics(before)
        if self._buffers:
            self._set_statistics(self.team.total(made) / self.shards)

    def _unsent(self) -> AbstractContextManager[None]:
        return self._called.no_sync() if isinstance(self._called, DistributedDataParallel) else nullcontext()

    @cached_property
    def _buffers(self) -> list[Tensor]:
        """What training changes besides weights; nothing where there is one shard, which changes them as ever."""
        kept = self.model.state_dict()
        return [b for name, b in self.model.named_buffers() if name in kept] if self.shards > 1 else []

    def _statistics(self) -> Tensor:
        """All of them in a row, in float64, so that the order in which they are added does not matter."""
        if not self._buffers:
            return torch.zeros(0)
        return torch.cat([buffer.flatten().double() for buffer in self._buffers])

    def _set_statistics(self, values: Tensor) -> None:
        parts = values.split([buffer.numel() for buffer in self._buffers])
        for buffer, part in zip(self._buffers, parts, strict=True):
            buffer.copy_(part.view_as(buffer))


def _summed(_state: None, bucket: GradBucket) -> torch.futures.Future[Tensor]:
    """Gradients of a bucket, summed: each shard's loss has been divided by what all of them count. (DDP alone takes the
    mean over processes.)"""
    work = dist.all_reduce(bucket.buffer(), async_op=True)
    assert work is not None
    return work.get_future().then(lambda done: done.value()[0])


# ---- Adam's moments, spread ------------------------------------------------------------------------------------------


def adam(model: nn.Module, lr: float, eps: float, spread: bool) -> torch.optim.Optimizer:
    """Adam; `spread` over the processes, each of which has the moments of its share of the weights, steps these, and
    sends them to the others (ZeRO, stage 1: Rajbhandari et al. 2020)."""
    if spread:
        from torch.distributed.optim import ZeroRedundancyOptimizer  # takes half a second to import

        return ZeroRedundancyOptimizer(model.parameters(), torch.optim.Adam, lr=lr, eps=eps, fused=True)
    return torch.optim.Adam(model.parameters(), lr=lr, eps=eps, fused=True)


def all_moments(optimizer: torch.optim.Optimizer, team: Team) -> Moments:
    """The moments of all weights, for a checkpoint; where they are spread, the processes but the first get none. All of
    them have to call it. (ZeroRedundancyOptimizer's own way leaves a second copy of all in the first process.)"""
    here = moments_here(optimizer)
    if local_part(optimizer) is optimizer:
        return here
    found: Moments = {}
    for number, weight in enumerate(weights_of(optimizer)):
        mine = here.get(number, {})
        step = team.total(mine.get("step", torch.zeros((), device=weight.device)))
        if step == 0:  # none has reached it
            continue
        moments = {name: team.total(mine.get(name, torch.zeros_like(weight))) for name in ("exp_avg", "exp_avg_sq")}
        if team.first:
            found[number] = {"step": step} | {name: value.cpu() for name, value in moments.items()}
    return found
