"""The listening page: all that evaluation wrote is in it, nothing outside is needed, its blind test counts right."""

import asyncio
import base64
import io
import json
import re
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
import soundfile

from models import listen

FILES = {
    "noisy": "noisy", "clean": "clean", "standard": "standard", "standard (level 100)": "standard-level-100",
    "standard_fp32": "standard-fp32", "RNNoise": "rnnoise", "DeepFilterNet 3": "deepfilternet-3",
}  # fmt: skip
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def speech_like(rate: int, seed: int) -> np.ndarray:
    t = np.arange(2 * rate) / rate
    return 0.2 * np.sin(2 * np.pi * (200 + 40 * seed) * t) * (np.sin(2 * np.pi * 1.5 * t) > 0)


@pytest.fixture
def evaluated(tmp_path: Path) -> Path:
    """What evaluation leaves: three clips a rate; file names are slugs of the systems' names."""
    for rate in (8000, 16000):
        clips = []
        for i, noise in enumerate(("babble", "café", "</script>")):
            systems = {FILES[name]: {"name": name, "pesq": 2.5, "ovrl": 3.0} for name in FILES if name != "clean"}
            clip = {"id": f"clip-{i}", "noise": noise, "condition": "", "snr": 5 * i, "voice": "fr", "line": "G.711"}
            clips.append({**clip, "systems": systems})
            (tmp_path / str(rate) / clip["id"]).mkdir(parents=True)
            for k, (name, file) in enumerate(FILES.items()):
                audio = speech_like(rate, i) * (0.5 if name == "RNNoise" else 1) + 0.001 * k
                soundfile.write(tmp_path / str(rate) / clip["id"] / f"{file}.wav", audio, rate)
        (tmp_path / str(rate) / "index.json").write_text(json.dumps({"rate": rate, "clips": clips}))
    return tmp_path


def made(folder: Path, **options: float) -> str:
    return listen.page(listen.collect(folder, options.get("budget_mb", 20.0), options.get("seconds", 2.0)))


def index_in(page: str) -> dict[str, Any]:
    return json.loads(re.search(r'id="index">(.*?)</script>', page, re.DOTALL)[1])


def sound_in(page: str, name: str) -> tuple[np.ndarray, int]:
    coded = re.search(rf'id="{name}">([^<]*)</script>', page)[1]
    return soundfile.read(io.BytesIO(base64.b64decode(coded)))


def test_every_system_of_every_clip_is_in_the_page(evaluated):
    page = made(evaluated)
    clips = index_in(page)["clips"]
    assert [(c["rate"], c["id"]) for c in clips if c["rate"] == 8000] and len(clips) == 6
    for clip in clips:
        assert [s["system"] for s in clip["sounds"]] == [
            "noisy", "standard", "standard (level 100)", "RNNoise", "DeepFilterNet 3", "clean"
        ]  # fmt: skip
        for sound in clip["sounds"]:
            audio, rate = sound_in(page, sound["id"])
            assert (rate, len(audio)) == (clip["rate"], 2 * clip["rate"])


def test_a_sound_is_the_file_sample_for_sample(evaluated):
    page = made(evaluated)
    clip = next(c for c in index_in(page)["clips"] if c["rate"] == 8000 and c["id"] == "clip-1")
    sound = next(s for s in clip["sounds"] if s["system"] == "DeepFilterNet 3")
    expected, _ = soundfile.read(evaluated / "8000" / "clip-1" / "deepfilternet-3.wav")
    heard, _ = sound_in(page, sound["id"])
    assert np.array_equal(heard[:-160], expected[:-160])  # the last 20 ms fade


def test_the_page_asks_for_nothing_from_outside(evaluated):
    page = re.sub(r"[A-Za-z0-9+/=]{200,}", "", made(evaluated))  # sounds may spell anything
    assert not re.search(r"https?:|//[a-z]|url\(|@import|\bsrc=|<link|fetch\(|XMLHttpRequest|\bimport\b", page)
    assert "default-src 'none'" in page
    assert "{{" not in page


def test_text_of_the_index_cannot_end_its_element(evaluated):
    page = made(evaluated)
    assert {c["noise"] for c in index_in(page)["clips"]} == {"babble", "café", "</script>"}


def test_a_quiet_system_is_raised_to_the_clean_speech(evaluated):
    sounds = index_in(made(evaluated))["clips"][0]["sounds"]
    gains = {s["system"]: s["gain"] for s in sounds}
    assert gains["clean"] == pytest.approx(1, abs=0.01)
    assert gains["RNNoise"] == pytest.approx(2, abs=0.05)


def test_a_small_page_keeps_both_rates(evaluated):
    whole = listen.collect(evaluated, 20.0, 2.0)
    room = 2.2 * max(clip.bytes for clip in whole) / 1e6
    few = listen.collect(evaluated, room, 2.0)
    assert len(few) < len(whole)
    assert {clip.rate for clip in few} == {8000, 16000}


def test_without_evaluation_the_error_says_what_to_run(tmp_path):
    with pytest.raises(listen.ListenError, match=r"python -m models.evaluate"):
        listen.collect(tmp_path, 1.0, 1.0)


def test_a_missing_clip_says_what_to_run(evaluated):
    shutil.rmtree(evaluated / "8000" / "clip-1")
    with pytest.raises(listen.ListenError, match=r"clip-1/.*\.wav is missing: run"):
        listen.collect(evaluated, 20.0, 2.0)


Script = Callable[[str], Awaitable[Any]]


async def in_browser(page: Path, profile: Path, act: Callable[[Script], Awaitable[None]]) -> None:
    """Opens the page in a headless Chromium and lets `act` evaluate expressions in it."""
    flags = ("--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", "--mute-audio",
             "--autoplay-policy=no-user-gesture-required", f"--user-data-dir={profile}")  # fmt: skip
    pipe = asyncio.subprocess.PIPE
    browser = await asyncio.create_subprocess_exec(CHROMIUM, *flags, page.as_uri(), stderr=pipe, limit=2**20)
    try:
        async with asyncio.timeout(90):
            while not (port := re.search(rb"ws://[^/]+:(\d+)", await browser.stderr.readline())):
                pass
            async with aiohttp.ClientSession() as http:
                targets = await (await http.get(f"http://127.0.0.1:{int(port[1])}/json")).json()
                address = next(t["webSocketDebuggerUrl"] for t in targets if t["type"] == "page")
                async with http.ws_connect(address, max_msg_size=0) as socket:
                    while not await evaluate(socket, LOADED):
                        await asyncio.sleep(0.1)
                    await act(lambda expression: evaluate(socket, expression))
    finally:
        browser.kill()
        await browser.communicate()


async def evaluate(socket: aiohttp.ClientWebSocketResponse, expression: str) -> Any:
    wish = {"expression": expression, "awaitPromise": True, "returnByValue": True}
    await socket.send_json({"id": 1, "method": "Runtime.evaluate", "params": wish})
    while (answer := await socket.receive_json()).get("id") != 1:
        pass
    assert "exceptionDetails" not in answer["result"], answer["result"]["exceptionDetails"]
    return answer["result"]["result"].get("value")


LOADED = "document.readyState === 'complete' && document.getElementById('index') !== null"
VOTE = """(async () => {
  document.getElementById("tab-blind").click();
  const key = (k) => document.body.dispatchEvent(new KeyboardEvent("keydown", { key: k, bubbles: true }));
  key("ArrowLeft");
  const unheard = state.votes.length;
  for (const wanted of ["standard", "", "RNNoise"]) {
    await hear("a");
    const audible = player.clip.sounds[player.chosen].system === state.trial.a && player.playing;
    if (!audible) throw new Error("A is not what plays");
    await hear("b");
    const { a } = state.trial;
    state.trial = { ...state.trial, a: a === "standard" || a === "RNNoise" ? a : "standard" };
    key(wanted === "" ? "ArrowDown" : state.trial.a === wanted ? "ArrowLeft" : "ArrowRight");
  }
  const shown = document.querySelectorAll("#results tbody tr").length;
  return JSON.stringify({ unheard, votes: state.votes, kept: JSON.parse(localStorage.getItem(STORE)), shown,
                          standings: Blind.standings(state.votes), csv: Blind.csv(state.votes) });
})()"""

RULES = """JSON.stringify({
  wilson: Blind.wilson(8, 10), none: Blind.wilson(0, 0), all: Blind.wilson(5, 5),
  standings: Blind.standings([
    { a: "x", b: "y", winner: "x" }, { a: "y", b: "x", winner: "x" }, { a: "x", b: "y", winner: "" },
    { a: "z", b: "y", winner: "y" }]),
  draws: (() => {
    const votes = [], sides = { left: 0 };
    for (let i = 0; i < 60; i++) {
      const { clip, a, b } = Blind.draw(INDEX.clips, ["standard", "RNNoise", "DeepFilterNet 3"], votes);
      votes.push({ a, b, clip: clip.id, winner: a });
      if (a < b) sides.left += 1;
    }
    return { duels: Blind.duels(votes).map((d) => d.better + d.worse), left: sides.left };
  })(),
  impossible: Blind.draw(INDEX.clips, ["standard"], []),
})"""


@pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium to run the page in: apt-get install chromium")
async def test_the_blind_test_counts_in_a_real_browser(evaluated, tmp_path):
    page = tmp_path / "listen.html"
    page.write_text(made(evaluated))
    seen: dict[str, Any] = {}

    async def act(script: Script) -> None:
        seen["votes"] = json.loads(await script(VOTE))
        seen["rules"] = json.loads(await script(RULES))

    await in_browser(page, tmp_path / "profile", act)
    check_votes(seen["votes"])
    check_rules(seen["rules"])


def check_votes(votes: dict[str, Any]) -> None:
    assert votes["unheard"] == 0, "a vote counted before both sides were heard"
    assert len(votes["votes"]) == 3
    assert votes["kept"] == votes["votes"]
    assert votes["votes"][1]["winner"] == ""
    assert all(v["winner"] in ("", v["a"], v["b"]) for v in votes["votes"])
    assert votes["shown"] == len(votes["standings"]) > 1
    assert len(votes["csv"].splitlines()) == 4


def check_rules(rules: dict[str, Any]) -> None:
    assert rules["wilson"] == pytest.approx([0.4902, 0.9433], abs=1e-4)  # Wilson (1927), 8 of 10
    assert rules["none"] == [0, 1]
    assert rules["all"] == pytest.approx([0.5655, 1], abs=1e-4)
    rows = {row["name"]: (row["better"], row["worse"], row["same"]) for row in rules["standings"]}
    assert rows == {"x": (2, 0, 1), "y": (1, 2, 1), "z": (0, 1, 0)}
    assert rules["draws"]["duels"] == [20, 20, 20], "pairs are not heard equally often"
    assert 10 < rules["draws"]["left"] < 50, "sides are not drawn at random"
    assert rules["impossible"] is None
