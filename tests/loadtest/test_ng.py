"""The proxy's side of NG, against the gateway's own codec and a socket that answers."""

import socket
import threading

import pytest

from gateway.protocol import bencode
from gateway.protocol import ng as gateway_ng
from loadtest import ng
from loadtest.calls import Call, media_address, session

BODY = {"command": "offer", "supports": ["load limit"], "sdp": "v=0\r\n", "number": -12, "leer": "", "ä": {"b": []}}


def test_the_gateway_reads_what_we_write():
    assert bencode.decode(ng.encode(BODY)) == BODY


def test_we_read_what_the_gateway_writes():
    assert ng.decode(bencode.encode(BODY)) == BODY


@pytest.mark.parametrize("make", [Call.offer, Call.answer, Call.delete])
def test_every_request_of_a_call_is_one_the_gateway_takes(make):
    call = Call.between((0, ("127.0.0.2", 4000)), (1, ("127.0.0.2", 4002)), denoise=False)
    request = gateway_ng.parse(b"cookie " + ng.encode(make(call)))
    assert request.command == make(call)["command"]
    assert request.call_id == call.call_id
    if request.sdp:
        assert request.controls.denoise == "off"


def test_a_leg_enters_where_its_party_was_told_and_leaves_towards_the_other():
    call = Call.between((0, ("127.0.0.2", 4000)), (1, ("127.0.0.2", 4002)))
    to_b, to_a = {"sdp": session(("127.0.0.1", 30000))}, {"sdp": session(("127.0.0.1", 30002))}
    a, b = call.legs(to_b, to_a)
    assert (a.enters[1], a.leaves[1]) == (30002, 30000)
    assert (b.enters[1], b.leaves[1]) == (30000, 30002)


def test_a_connection_line_of_the_media_section_goes_first():
    sdp = "v=0\r\nc=IN IP4 192.0.2.1\r\nm=audio 4000 RTP/AVP 0\r\nc=IN IP4 192.0.2.2\r\nm=video 0 RTP/AVP 96\r\n"
    assert media_address(sdp) == ("192.0.2.2", 4000)


@pytest.mark.parametrize("sdp", ["", "m=audio 4000 RTP/AVP 0", "c=IN IP4 192.0.2.1\r\nm=audio 0 RTP/AVP 0"])
def test_an_sdp_without_a_media_address_is_an_error(sdp):
    with pytest.raises(ng.NgError):
        media_address(sdp)


@pytest.fixture
def server():
    """A UDP socket, and its address."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    sock.settimeout(5)
    yield sock
    sock.close()


def answer(sock: socket.socket, bodies: list[dict[str, object]], order: list[int]) -> threading.Thread:
    """Answer so many requests, in another order."""

    def work() -> None:
        requests = [sock.recvfrom(65535) for _ in bodies]
        for i in order:
            datagram, source = requests[i]
            sock.sendto(datagram.partition(b" ")[0] + b" " + ng.encode(bodies[i]), source)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_replies_find_their_requests_in_any_order(server):
    client = ng.NgClient(server.getsockname())
    cookies = [client.send({"command": "ping"}) for _ in range(2)]
    answer(server, [{"result": "one"}, {"result": "two"}], [1, 0]).join()
    replies = {reply.cookie: reply.body["result"] for reply in client.replies(wait_s=5)}
    replies |= {reply.cookie: reply.body["result"] for reply in client.replies(wait_s=0.1)}
    client.close()
    assert replies == {cookies[0]: "one", cookies[1]: "two"}
    assert client.waiting == 0


def test_a_refusal_carries_the_reason(server):
    client = ng.NgClient(server.getsockname())
    thread = answer(server, [{"result": "error", "error-reason": "Ran out of ports"}], [0])
    with pytest.raises(ng.NgError, match="Ran out of ports"):
        client.request({"command": "offer"})
    thread.join()
    client.close()


def test_cookies_of_two_clients_differ(server):
    clients = [ng.NgClient(server.getsockname()) for _ in range(2)]
    first, second = (client.send({"command": "ping"}) for client in clients)
    for client in clients:
        client.close()
    assert first != second
