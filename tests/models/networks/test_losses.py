"""What is left in pauses costs, what happens to speech there is not for this part of the loss."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
RATE = 8000


def speech_and_pause() -> np.ndarray:
    """Half a second of sound, half a second of silence, twice."""
    sound = np.random.default_rng(0).standard_normal((2, RATE)).astype(np.float32) * 0.1
    sound[:, RATE // 2 :] = 0
    return sound.reshape(1, -1)


def in_pauses(output: np.ndarray, target: np.ndarray) -> float:
    from models.networks.losses import spectral

    return float(spectral(torch.from_numpy(output), torch.from_numpy(target), torch.hann_window(256))[1][0])


def test_nothing_is_lost_where_nothing_differs():
    assert in_pauses(speech_and_pause(), speech_and_pause()) == 0


def test_the_more_is_left_in_a_pause_the_more_it_costs():
    target = speech_and_pause()
    noise = np.where(target == 0, np.random.default_rng(1).standard_normal(target.shape) * 0.1, 0).astype(np.float32)
    costs = [in_pauses(target + share * noise, target) for share in (0.01, 0.1, 0.3, 1.0)]
    assert costs == sorted(costs)
    assert costs[3] - costs[1] == pytest.approx(0.5 * 2, rel=0.3)  # 20 dB for half the time


def test_what_happens_to_speech_costs_nothing_here():
    target = speech_and_pause()
    assert in_pauses(0.3 * target, target) == 0


def test_noise_alone_is_all_pause():
    noise = np.random.default_rng(2).standard_normal((1, RATE)).astype(np.float32) * 0.05
    assert in_pauses(noise, np.zeros_like(noise)) > 1


def test_a_voice_that_gets_softer_costs_a_bel_for_ten_decibels():
    from models.networks.losses import softer

    target = torch.from_numpy(speech_and_pause())
    noise = 0.1 * torch.randn(target.shape, generator=torch.manual_seed(0))
    costs = [float(softer(gain * target + noise, target)) for gain in (1.5, 1.0, 10**-0.15, 10**-0.5)]
    assert costs == pytest.approx([0, 0, 0.3, 1.0], abs=0.05)
    assert float(softer(noise, torch.zeros_like(target))) == 0


def test_a_loss_can_be_learned_from():
    from models.networks.losses import Loss

    target = torch.from_numpy(speech_and_pause())
    output = (target + 0.01 * torch.randn_like(target)).requires_grad_()
    logits, labels = torch.zeros(200, 1, 4), torch.ones(200, 1, 4)
    total, parts = Loss(RATE)(output, target, logits, labels)
    total.backward()
    assert torch.isfinite(output.grad).all()
    assert set(parts) == {"spectral", "pauses", "level", "heard", "softer", "head"}
