"""What the machine offers: bf16, cores; decided once, said in the log, never silently worse than asked."""

import ctypes
import os

import torch

from posa_vla.errors import PosaError, unknown_name

PRECISIONS = ("auto", "bf16", "fp32")


def has_fast_bf16(device: str) -> bool:
    """Whether bf16 arithmetic is native: the CPU has AVX512-BF16 or AMX, or the GPU tensor cores for it."""
    if device == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    if device.startswith("cuda"):
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return False


def mixed_precision(asked: str, device: str) -> str:
    """`bf16`, or accelerate's name for fp32, `no`; `auto` asks the hardware, `bf16` insists on it."""
    if asked not in PRECISIONS:
        raise unknown_name("mixed precision", asked, PRECISIONS)
    if asked == "auto":
        return "bf16" if has_fast_bf16(device) else "no"
    if asked == "bf16" and not has_fast_bf16(device):
        raise PosaError(
            f"--mixed_precision=bf16 expects hardware with bf16 arithmetic, found none on {device!r}: use "
            "--mixed_precision=auto or fp32"
        )
    return {"bf16": "bf16", "fp32": "no"}[asked]


def plain_device(device: torch.device) -> torch.device:
    """``cpu`` and ``cuda:INDEX``: accelerate numbers CPU devices, one per process, and names a lone GPU ``cuda``."""
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu") if device.type == "cpu" else device


def choose_gpu(asked: str) -> None:
    """Make ``cuda:INDEX`` the GPU that ``cuda`` means in this process; no other device has an index to choose."""
    device = torch.device(asked)
    if device.type != "cuda" or device.index is None:
        return
    if "LOCAL_RANK" in os.environ:
        raise PosaError(
            f"torchrun gives every process a GPU of its own, found --policy.device={asked}: use --policy.device=cuda, "
            "and CUDA_VISIBLE_DEVICES to choose among the GPUs"
        )
    if device.index >= torch.cuda.device_count():
        raise PosaError(f"--policy.device={asked} expects that GPU, found {torch.cuda.device_count()}: choose another")
    torch.cuda.set_device(device)


def processes_here(all_processes: int) -> int:
    """Processes on this machine, as torchrun counts them; all of them where it did not start this one."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", all_processes))


def set_threads(asked: int, local_processes: int) -> int:
    """Set torch's CPU threads; 0 = the cores this process may use, divided among this machine's processes.

    More threads than cores is what makes CPU training crawl: OpenMP barriers wait for the slowest thread.
    """
    if asked < 0:
        raise PosaError(f"expected --threads >= 0 (0 = all available cores), found {asked}")
    threads = asked or max(1, len(os.sched_getaffinity(0)) // max(1, local_processes))
    torch.set_num_threads(threads)
    return threads


def keep_freed_memory() -> bool:
    """Let glibc hold on to freed activations instead of giving them back to the kernel after every step.

    A `tiny` step on the CPU had 42,000 page faults otherwise, a tenth of its time. A hint, not a promise: how
    often the largest tensors land on old pages varies from process to process. Returns whether the C library
    has the option (glibc does).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h
    return bool(mallopt(M_MMAP_THRESHOLD, 1 << 30) and mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1))
