"""``posa-vla bench model``: parameters, FLOPs and latency of each preset, randomly initialised."""

import time
from dataclasses import dataclass

import draccus
import torch
from torch.utils.flop_counter import FlopCounterMode

from posa_vla.errors import PosaError
from posa_vla.model.configuration import PRESETS, preset
from posa_vla.model.network import PosaNetwork
from posa_vla.options import listed


@dataclass
class ModelBenchmarkConfig:
    """Args:
    presets: which presets, comma-separated.
    device: torch device.
    threads: torch threads on the CPU.
    repeats: timed chunks per preset; the median is printed.
    """

    presets: str = ",".join(PRESETS)
    device: str = "cpu"
    threads: int = 1
    repeats: int = 5


def measure(name: str, device: str, repeats: int) -> dict[str, float]:
    """Parameters (M), FLOPs of one chunk (G, multiply-adds count twice) and its latency (ms), batch 1."""
    config = preset(name, pretrained=False, tokenizer="bytes")
    net = PosaNetwork(config, torch.tensor([1])).to(device).eval()
    images = torch.rand(1, config.num_cameras, 3, config.image_size, config.image_size, device=device)
    tokens = torch.ones(1, config.max_text_length, dtype=torch.long, device=device)
    state = torch.zeros(1, config.state_dim, device=device)
    noise = torch.randn(1, config.chunk_size, config.action_dim, device=device)

    @torch.inference_mode()
    def chunk() -> float:
        start = time.perf_counter()
        sight = net.look(images, tokens, tokens.bool(), state)
        net.sample_actions(net.remember(images, sight, state), noise)
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        return (time.perf_counter() - start) * 1e3

    with FlopCounterMode(display=False) as counter:
        chunk()
    latency = sorted(chunk() for _ in range(repeats))[repeats // 2]
    encoders = {id(p): p.numel() for module in net.encoder_modules() for p in module.parameters()}
    return {
        "parameters": sum(p.numel() for p in net.parameters()) / 1e6,
        "encoders": sum(encoders.values()) / 1e6,
        "gflops": counter.get_total_flops() / 1e9,
        "latency": latency,
        "chunk": config.chunk_size,
    }


def main(argv: list[str]) -> None:
    config = draccus.parse(config_class=ModelBenchmarkConfig, args=argv)
    if config.threads < 1 or config.repeats < 1:
        raise PosaError(f"threads and repeats must be at least 1, found {config.threads} and {config.repeats}")
    torch.set_num_threads(config.threads)
    print("| preset | parameters (M) | of these encoders (M) | GFLOPs per chunk | chunk | ms per chunk |")
    print("|---|---|---|---|---|---|")
    for name in listed(config.presets):
        row = measure(name, config.device, config.repeats)
        print(
            f"| {name} | {row['parameters']:.2f} | {row['encoders']:.2f} | {row['gflops']:.2f} "
            f"| {row['chunk']:.0f} | {row['latency']:.1f} |"
        )
