"""Several processes that train one model together, started by ``torchrun`` or ``accelerate launch``.

All functions work for one process too.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
from torch import Tensor, distributed

from edge_runtime.errors import WrongUseError

Result = TypeVar("Result")

_WAIT = timedelta(days=2)
"""Longest wait for another process: the first one may compute descriptors of a large corpus while the others wait. A
process that dies is noticed at once, by the launcher."""


@contextmanager
def together() -> Iterator[None]:
    """Join the other processes of this start, if there are any, for the length of the block.

    Raises:
        WrongUseError: there are more processes than GPUs on this machine; raised in its first process, the others end.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    _refuse_shared_gpus()
    from accelerate import PartialState  # a second to import, for those who start several processes

    PartialState(cpu=on_cpu(), timeout=_WAIT)
    try:
        yield
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()


def on_cpu() -> bool:
    """Return whether training runs on the CPU, which Accelerate needs to join processes without an accelerator."""
    return not torch.accelerator.is_available() or os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true")


def repeatable() -> None:
    """Make CUDA deterministic, so that a resumed run has the result of an uninterrupted one.

    Some of its kernels sum in the order in which threads come. Where there is no other kernel, PyTorch only warns. Call
    it before anything ran on the GPU: cuBLAS reads its variable once.
    """
    if on_cpu():
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(mode=True, warn_only=True)
    torch.backends.cudnn.benchmark = False
    # Its backward pass heeds the line above only where that raises instead of warning.
    torch.backends.cuda.enable_mem_efficient_sdp(enabled=False)


def _refuse_shared_gpus() -> None:
    """Refuse two processes on one GPU, for which NCCL fails with a page of traceback."""
    here, gpus = int(os.environ.get("LOCAL_WORLD_SIZE", "1")), torch.cuda.device_count()
    if on_cpu() or not torch.cuda.is_available() or here <= gpus:
        return
    if os.environ.get("LOCAL_RANK", "0") != "0":
        raise SystemExit(WrongUseError.exit_code)
    raise WrongUseError(
        f"{here} processes cannot share {gpus} GPU{'s' if gpus > 1 else ''}: give --nproc-per-node {gpus}, or set "
        "CUDA_VISIBLE_DEVICES to nothing to train on the CPU"
    )


def count() -> int:
    """Return how many processes work together."""
    return distributed.get_world_size() if _several() else 1


def rank() -> int:
    """Return the number of this process, from 0."""
    return distributed.get_rank() if _several() else 0


def by_first(work: Callable[[], Result]) -> Result:
    """Call a function in the first process alone while the others wait, and return its result in all of them.

    Where it fails, the first process raises the error; the others end without a message, so that it appears once.
    """
    if not _several():
        return work()
    box: list[tuple[bool, Result | int | None]] = [(False, 1)]
    if rank() == 0:
        try:
            box[0] = (True, work())
        except BaseException as error:
            box[0] = (False, getattr(error, "exit_code", 1))
            raise
        finally:
            distributed.broadcast_object_list(box)
    else:
        distributed.broadcast_object_list(box)
    done, result = box[0]
    if not done:
        raise SystemExit(result)
    return result  # type: ignore[return-value]


def mean_of_rows(rows: Tensor) -> Tensor:
    """Return the mean ``[1, D]`` over the rows ``[B, D]`` of all processes, however many each one has."""
    if not _several():
        return rows.mean(dim=0, keepdim=True)
    sums = torch.cat([rows.sum(dim=0), rows.new_tensor([len(rows)])])
    distributed.all_reduce(sums)
    return (sums[:-1] / sums[-1]).unsqueeze(0)


def weight_of_share(items: int, device: torch.device) -> float:
    """Return what to multiply a mean over this process' ``items`` by, so that averaging processes averages items."""
    if not _several():
        return 1.0
    total = torch.tensor(float(items), device=device)
    distributed.all_reduce(total)
    return count() * items / total.item()


def _several() -> bool:
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1
