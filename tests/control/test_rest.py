"""`POST /v1/denoise` on a running gateway."""

import io

import aiohttp
import numpy as np
import pytest
import soundfile


def recording(rate=8000, seconds=3, channels=1) -> tuple[np.ndarray, bytes]:
    pcm = np.random.default_rng(1).integers(-9000, 9000, (rate * seconds, channels)).astype(np.int16)
    file = io.BytesIO()
    soundfile.write(file, pcm, rate, format="WAV")
    return pcm, file.getvalue()


async def post(gateway, body, query="") -> tuple[int, bytes]:
    url = f"http://{gateway.listening().admin}/v1/denoise{query}"
    async with aiohttp.ClientSession() as session, session.post(url, data=body) as answer:
        return answer.status, await answer.read()


@pytest.mark.parametrize("rate", [8000, 16000])
async def test_a_recording_comes_back_with_the_same_length_and_place(gateway, rate):
    pcm, body = recording(rate)
    status, answer = await post(gateway, body, "?bypass=on")
    heard, found = soundfile.read(io.BytesIO(answer), dtype="int16")
    assert (status, found) == (200, rate) and np.array_equal(heard, pcm[:, 0])
    assert not gateway.desk.sessions and gateway.desk.ended == {"OK": 1}


@pytest.mark.parametrize(
    ("body", "query", "status", "hint"),
    [
        (b"nonsense", "", 400, b"no WAV file"),
        (recording(channels=2)[1], "", 400, b"one request a channel"),
        (recording(11025)[1], "", 400, b"8000, 16000 or 48000"),
        (recording()[1], "?level=101", 400, b"0 to 100"),
        (recording()[1], "?loud=1", 400, b"known are level"),
    ],
)
async def test_what_is_wrong_is_said(gateway, body, query, status, hint):
    found, answer = await post(gateway, body, query)
    assert found == status and hint in answer
    assert not gateway.desk.sessions
