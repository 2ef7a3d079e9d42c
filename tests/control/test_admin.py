"""The admin interface, asked over real HTTP."""

import asyncio
import contextlib
from urllib.parse import quote

import aiohttp
import pytest

from gateway.app import Gateway
from gateway.config import AdminConfig
from gateway.control import admin
from tests.control.harness import loopback_config


@pytest.fixture
async def http(gateway):
    async with aiohttp.ClientSession(f"http://{gateway.listening().admin}") as session:
        yield session


async def test_health_and_readiness_say_what_is_missing(gateway, http):
    assert (await http.get("/healthz")).status == 200
    assert (await http.get("/readyz")).status == 200
    gateway.calls.draining = True
    gateway.workers.places[0].link, link = None, gateway.workers.places[0].link
    response = await http.get("/readyz")
    gateway.workers.places[0].link = link
    assert response.status == 503
    assert (await response.json())["missing"] == ["worker 0 is not ready", "draining: no new calls"]


async def test_metrics_count_calls_requests_and_legs(gateway, http, proxy):
    await proxy.call("c", 4000, 5000)
    response = await http.get("/metrics")
    text = await response.text()
    assert response.content_type == "text/plain"
    for line in (
        "denoise_gateway_calls 1.0",
        'denoise_gateway_legs{worker="0"} 2.0',
        'denoise_gateway_ng_requests_total{command="offer",result="ok"} 1.0',
        "denoise_gateway_calls_started_total 1.0",
        'denoise_gateway_port_pairs{address="127.0.0.1",state="in_use"} 2.0',
        'denoise_gateway_port_pairs{address="127.0.0.1",state="resting"} ',
        'denoise_gateway_port_pairs{address="127.0.0.1",state="free"} 9',
        'denoise_gateway_ng_request_duration_seconds_count{command="answer"} 1.0',
        'denoise_gateway_added_delay_seconds_bucket{le="0.001",worker="0"}',
    ):
        assert line in text


async def test_calls_are_listed_in_pages(http, proxy):
    for number in range(5):
        await proxy.call(f"c{number}", 4000, 5000)
    first = await (await http.get("/calls", params={"limit": 2})).json()
    assert [call["call-id"] for call in first["calls"]] == ["c0", "c1"] and (first["total"], first["next"]) == (5, 2)
    last = await (await http.get("/calls", params={"limit": 2, "offset": 4})).json()
    assert len(last["calls"]) == 1 and last["next"] is None
    assert (await http.get("/calls", params={"limit": "-1"})).status == 400


async def test_a_call_is_shown_and_changed_whatever_its_id_is_made_of(gateway, http, proxy):
    call_id = "a/b c%@host"
    await proxy.call(call_id, 4000, 5000)
    path = "/calls/" + quote(call_id, safe="")
    from yarl import URL

    url = URL(f"http://{gateway.listening().admin}{path}", encoded=True)
    shown = await (await http.get(url)).json()
    assert shown["call-id"] == call_id and set(shown["tags"]) == {"A", "B"}
    response = await http.patch(url, json={"denoise": "off", "tag": "A", "level": 30})
    changed = await response.json()
    assert response.status == 200 and changed["denoise"]["level"] == 30
    assert changed["tags"]["A"]["medias"][0]["streams"][0]["denoise"]["on"] == 0
    assert changed["tags"]["B"]["medias"][0]["streams"][0]["denoise"]["on"] == 1


WRONG_CHANGES = [
    (b"{", "JSON"),
    (b"[]", "object"),
    (b"{}", "object"),
    (b'{"volume": 1}', "volume"),
    (b'{"level": 101}', "level"),
    (b'{"level": true}', "level"),
    (b'{"denoise": "loud"}', "denoise"),
    (b'{"denoise": ["on"]}', "denoise"),
    (b'{"denoise": "on"}', "tag"),
    (b'{"denoise": "on", "tag": "nobody"}', "nobody"),
    (b'{"tag": 7, "level": 1}', "tag"),
    (b"\xff\xfe", "UTF-8"),
    (b"[" * 10_000, "JSON"),
]


async def test_a_wrong_change_is_refused_and_says_what_would_be_right(http, proxy):
    await proxy.call("c", 4000, 5000)
    for body, words in WRONG_CHANGES:
        response = await http.patch("/calls/c", data=body)
        answer = await response.json()
        assert response.status == 400, body
        assert words in answer["error"] and "level" in answer["hint"]


async def test_a_body_is_utf_8_whatever_charset_its_type_names(http, proxy):
    await proxy.call("c", 4000, 5000)
    response = await http.patch("/calls/c", data=b'{"level": 5}', headers={"Content-Type": "text/plain; charset=none"})
    assert response.status == 200 and (await response.json())["denoise"]["level"] == 5


async def test_unknown_calls_and_paths_get_404_and_huge_bodies_413(http):
    assert (await http.get("/calls/nobody")).status == 404
    assert (await http.patch("/calls/nobody", json={"level": 1})).status == 404
    response = await http.get("/nothing")
    assert response.status == 404 and "/calls" in (await response.json())["hint"]
    assert (await http.post("/calls")).status == 405


async def test_a_huge_body_is_refused(http, proxy):
    await proxy.call("c", 4000, 5000)
    assert (await http.patch("/calls/c", data=b" " * 100_000)).status == 413


async def test_who_is_not_on_the_list_is_sent_away_before_it_says_anything_and_the_log_names_it(caplog):
    from dataclasses import replace

    config = replace(loopback_config(), admin=AdminConfig("127.0.0.1:0", allow=("192.0.2.0/24",)))
    gateway = Gateway(config)
    try:
        listening = await gateway.start()
        for _ in range(3):
            reader, writer = await asyncio.open_connection(*listening.admin.split(":"))
            with contextlib.suppress(ConnectionError):
                assert await asyncio.wait_for(reader.read(), 2) == b""
            writer.close()
        assert not gateway._runner._server.connections
        (said,) = [record for record in caplog.records if record.name == "gateway.control.allow"]
        assert said.client == "127.0.0.1" and "admin.allow" in said.hint
    finally:
        await gateway.stop()


async def test_who_is_on_the_list_and_says_nothing_is_let_go_after_a_while(monkeypatch):
    monkeypatch.setattr(admin, "KEEPALIVE_S", 0.1)
    gateway = Gateway(loopback_config())
    try:
        listening = await gateway.start()
        for said in (b"", b"GET /calls HTTP/1.1\r\n"):
            reader, writer = await asyncio.open_connection(*listening.admin.split(":"))
            writer.write(said)
            assert await asyncio.wait_for(reader.read(), 5) == b""
            writer.close()
    finally:
        await gateway.stop()
