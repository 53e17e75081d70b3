"""The flow head: time sampling, shared memories, and a flow whose velocity is known."""

import pytest
import torch

from posa_vla.model.action_transformer import ActionTransformer, attend, sample_time


def test_beta_time_trains_the_noisy_end_and_the_literal_reading_the_other():
    generator = torch.Generator().manual_seed(0)
    times = {name: sample_time(20_000, name, torch.device("cpu"), generator) for name in ("beta", "beta_literal")}
    assert times["beta"].mean().item() == pytest.approx(0.4, abs=0.01)  # E[Beta(1.5, 1)] = 0.6
    assert times["beta_literal"].mean().item() == pytest.approx(0.6, abs=0.01)
    assert all(t.min() >= 0 and t.max() <= 1 for t in times.values())


def test_attention_equals_torchs():
    torch.manual_seed(0)
    q, k, v = torch.randn(2, 3, 5, 8, requires_grad=True), torch.randn(2, 3, 7, 8), torch.randn(2, 3, 7, 8)
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    assert torch.allclose(attend(q, k, v), expected, atol=1e-6)
    assert torch.equal(attend(q.detach(), k, v), torch.nn.functional.scaled_dot_product_attention(q.detach(), k, v))


def randomised(depth=2):
    torch.manual_seed(0)
    transformer = ActionTransformer(action_dim=3, chunk_size=4, width=16, depth=depth, heads=2)
    for parameter in transformer.parameters():
        torch.nn.init.normal_(parameter, std=0.2)  # adaLN-zero starts blind: wake it up
    return transformer


def test_several_chunks_share_one_memory():
    transformer = randomised()
    memory = torch.randn(2, 6, 16)
    x, tau = torch.randn(2 * 3, 4, 3), torch.rand(6)
    shared = transformer(x, tau, transformer.remember(memory))
    copied = transformer(x, tau, transformer.remember(memory.repeat_interleave(3, dim=0)))
    assert torch.allclose(shared, copied, atol=1e-5)


def test_integration_takes_eulers_steps():
    """What τ says is computed for all steps at once and shared by the chunks; the steps must be `forward`'s."""
    transformer = randomised()
    x = noise = torch.randn(2, 4, 3)
    steps = 5
    with torch.no_grad():
        memory = transformer.remember(torch.randn(2, 6, 16))
        for step in range(steps):
            x = x + transformer(x, torch.full((2,), step / steps), memory) / steps
        found = transformer.integrate(noise, memory, steps)
    assert torch.allclose(found, x, atol=1e-5)
    assert (found - noise).abs().mean() > 0.1


def test_it_recovers_a_known_constant_velocity():
    """Data = one point per observation, so the best velocity field integrates to that very point."""
    torch.manual_seed(0)
    transformer = ActionTransformer(action_dim=2, chunk_size=3, width=32, depth=2, heads=2)
    memory = torch.randn(2, 4, 32)
    actions = torch.tensor([[[0.5, -0.5]] * 3, [[-0.3, 0.8]] * 3])
    optimiser = torch.optim.Adam(transformer.parameters(), lr=3e-3)
    for _ in range(400):
        chunks = actions.repeat_interleave(16, dim=0)
        noise, tau = torch.randn_like(chunks), torch.rand(len(chunks))
        x = torch.lerp(noise, chunks, tau[:, None, None])
        loss = (transformer(x, tau, transformer.remember(memory)) - (chunks - noise)).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        found = transformer.integrate(torch.randn(2, 3, 2), transformer.remember(memory), steps=10)
    assert (found - actions).abs().max() < 0.1
