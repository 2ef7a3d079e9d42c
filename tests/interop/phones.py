"""Phones: sipp scenarios, put together from steps.

A scenario is a list of steps, each a piece of sipp's XML. sipp plays RTP from pcap files to the address in the other
side's SDP, so whatever the proxy and the gateway wrote there is what is used.
"""

from collections.abc import Callable
from pathlib import Path

from tests.interop.peers import SIP_PORT, Process, Site
from tests.interop.recorder import Recorder

MEDIA_PORT = 6000
SDP = """\
v=0
o=- 1 {version} IN IP[media_ip_type] [media_ip]
s=-
c=IN IP[media_ip_type] {address}
t=0 0
m=audio [media_port] RTP/AVP 0 101
a=rtpmap:0 PCMU/8000
a=rtpmap:101 telephone-event/8000
a=fmtp:101 0-15
a=ptime:20
a={direction}
"""
VIA = "Via: SIP/2.0/UDP [local_ip]:[local_port];branch=[branch]"
CALLER = "From: <sip:alice@[local_ip]:[local_port]>;tag=[pid]caller[call_number]"
CALLEE = "To: <sip:bob@[remote_ip]:[remote_port]>"
CONTACT = "Contact: <sip:[local_ip]:[local_port]>"
ECHO = "[last_Via:]\n[last_From:]\n[last_To:]{tag}\n[last_Call-ID:]\n[last_CSeq:]\n[last_Record-Route:]\n"


def sdp(direction: str = "sendrecv", version: int = 1, address: str = "[media_ip]") -> str:
    return SDP.format(direction=direction, version=version, address=address)


def send(text: str, retransmit: bool = False) -> str:
    attribute = ' retrans="500"' if retransmit else ""
    return f"<send{attribute}><![CDATA[\n\n{text}\n]]></send>"


def message(head: str, body: str = "") -> str:
    if not body:
        return f"{head}\nContent-Length: 0\n"
    return f"{head}\nContent-Type: application/sdp\nContent-Length: [len]\n\n{body}"


def recv(what: int | str, optional: bool = False, routes: bool = False) -> str:
    kind = "response" if isinstance(what, int) else "request"
    more = ' optional="true"' * optional + ' rrs="true"' * routes
    return f'<recv {kind}="{what}"{more}></recv>'


def play(pcap: Path) -> str:
    return f'<nop><action><exec play_pcap_audio="{pcap}"/></action></nop>'


def pause(milliseconds: float) -> str:
    return f'<pause milliseconds="{round(milliseconds)}"/>'


def invite(body: str, controls: str = "") -> list[str]:
    """The caller's first INVITE; controls: a header X-Denoise."""
    head = f"INVITE sip:bob@[remote_ip]:[remote_port] SIP/2.0\n{VIA}\n{CALLER}\n{CALLEE}\n"
    head += f"Call-ID: [call_id]\nCSeq: 1 INVITE\n{CONTACT}\nMax-Forwards: 70"
    return [send(message(head + (f"\nX-Denoise: {controls}" if controls else ""), body), retransmit=True)]


def in_dialog(method: str, cseq: int, body: str = "") -> str:
    """A request of the caller within the dialog (after a `recv` with routes)."""
    head = f"{method} [next_url] SIP/2.0\n{VIA}\n[routes]\n{CALLER}\n{CALLEE}[peer_tag_param]\n"
    head += f"Call-ID: [call_id]\nCSeq: {cseq} {method}\n{CONTACT}\nMax-Forwards: 70"
    return send(message(head, body), retransmit=method != "ACK")


def reply(status: str, body: str = "", tag: bool = True) -> str:
    """The callee's answer to the last request; tag: the request had none in To yet."""
    head = f"SIP/2.0 {status}\n{ECHO.format(tag=';tag=[pid]callee[call_number]' if tag else '')}{CONTACT}"
    return send(message(head, body), retransmit=status.startswith("200") and bool(body))


def answered() -> list[str]:
    """The caller waits for the answer and acknowledges it."""
    return [*(recv(code, optional=True) for code in (100, 180, 183)), recv(200, routes=True), in_dialog("ACK", 1)]


def hang_up(cseq: int = 2) -> list[str]:
    return [in_dialog("BYE", cseq), recv(200)]


def reinvite(cseq: int, body: str) -> list[str]:
    """The caller offers again within the dialog."""
    return [in_dialog("INVITE", cseq, body), recv(100, optional=True), recv(200, routes=True), in_dialog("ACK", cseq)]


def cancel() -> str:
    """The caller gives up before there is an answer."""
    return send(to_the_invite("CANCEL"), retransmit=True)


def give_up() -> str:
    """The caller acknowledges the refusal of its INVITE."""
    return send(to_the_invite("ACK"))


def to_the_invite(method: str) -> str:
    head = f"{method} sip:bob@[remote_ip]:[remote_port] SIP/2.0\n[last_Via:]\n{CALLER}\n"
    to = f"{CALLEE}[peer_tag_param]" if method == "ACK" else CALLEE
    return message(f"{head}{to}\nCall-ID: [call_id]\nCSeq: 1 {method}\nMax-Forwards: 70")


def terminated() -> str:
    """The callee's refusal of an INVITE that was cancelled."""
    head = "SIP/2.0 487 Request Terminated\n[last_Via:]\n[last_From:]\n[last_To:];tag=[pid]callee[call_number]\n"
    return send(message(f"{head}[last_Call-ID:]\nCSeq: 1 INVITE"), retransmit=True)


def callee(pcap: Path) -> list[str]:
    """A phone that rings, answers, talks and is hung up on."""
    ringing = [recv("INVITE", routes=True), reply("180 Ringing"), reply("200 OK", sdp()), recv("ACK")]
    return [*ringing, play(pcap), *hung_up()]


def caller(pcap: Path, seconds: float, controls: str = "") -> list[str]:
    """A phone that calls, talks for so long and hangs up."""
    return [*invite(sdp(), controls), *answered(), *talking(pcap, seconds), *hang_up()]


def talking(pcap: Path, seconds: float) -> list[str]:
    """Plays it to its end, and a little longer for the last packets to arrive."""
    return [play(pcap), pause(seconds * 1000 + 300)]


def hung_up() -> list[str]:
    """The callee waits for BYE."""
    return [recv("BYE"), reply("200 OK", tag=False)]


def start_phone(site: Site, name: str, address: str, steps: list[str], calls: str = "") -> Process:
    """Runs one scenario for one call; `calls`: address of the proxy to call instead of waiting for a call."""
    path = site.directory / f"{name}.xml"
    path.write_text(
        f'<?xml version="1.0" encoding="us-ascii"?>\n<scenario name="{name}">\n' + "\n".join(steps) + "\n</scenario>\n"
    )
    command = ["sipp", "-sf", str(path), "-i", address, "-p", str(SIP_PORT), "-mi", address, "-mp", str(MEDIA_PORT)]
    command += ["-m", "1", "-nostdin", "-trace_err", "-error_file", str(site.directory / f"{name}.errors")]
    return site.start(name, [*command, f"{calls}:{SIP_PORT}"] if calls else command)


def place_call(
    site: Site,
    caller: list[str],
    callee: list[str],
    second: list[str] | None = None,
    during: Callable[[Recorder], None] | None = None,
) -> Recorder:
    """One call from alice to bob to its end; returns what went over the wire.

    second: carol is called at the same time; during: called while the call runs.
    """
    network = site.network
    proxy = network.proxy if second is None else network.forking_proxy
    phones: list[Process] = []
    with Recorder(network.prefix) as recorder:
        try:
            phones.append(start_phone(site, "bob", network.bob, callee))
            if second is not None:
                phones.append(start_phone(site, "carol", network.carol, second))
            site.until(lambda: all(listening(phone) for phone in phones), "the called phones listen", 5)
            phones.append(start_phone(site, "alice", network.alice, caller, calls=proxy))
            if during:
                during(recorder)
            site.until(lambda: all(phone.ended() for phone in phones), "the call comes to its end", 25)
        finally:
            for phone in phones:
                phone.stop()
                site.processes.remove(phone)
    return recorder


def listening(phone: Process) -> bool:
    """sipp has bound its SIP port."""
    sockets = Path(f"/proc/{phone.popen.pid}/net/udp").read_text()
    host = phone.command[phone.command.index("-i") + 1]
    address = "".join(f"{int(part):02X}" for part in reversed(host.split(".")))
    return f" {address}:{SIP_PORT:04X} " in sockets
