"""What we tell about a call: the reply to NG's `query` and `delete`, and the admin interface's JSON.

Keys and nesting are rtpengine's (docs/ng_control_protocol.md of sipwise/rtpengine), because that is what Kamailio and
OpenSIPS read back; `denoise` in a stream and `denoise` beside `tags` are ours.
"""

from collections.abc import Iterable

from gateway.call import Call
from gateway.legs import Leg, Stats
from gateway.messages import Address, Detected, Reason
from gateway.parties import Line, Party

Report = dict[str, object]


def full(call: Call, unix_offset_s: float) -> Report:
    """Everything about a call. unix_offset_s: what turns the monotonic clock into Unix time."""
    created = call.created + unix_offset_s
    return {
        "created": int(created),
        "created_us": int(created % 1 * 1_000_000),
        "last signal": int(call.signalled + unix_offset_s),
        "totals": {"RTP": _totals(call.legs()), "RTCP": {"packets": 0, "bytes": 0, "errors": 0}},
        "SSRC": {str(leg.stats.ssrc_in): _ssrc(leg.stats) for leg in call.legs() if leg.stats.ssrc_in},
        "tags": {party.tag or party.via_branch or "": _party(call, party, unix_offset_s) for party in call.parties()},
        "state": str(call.state),
        "denoise": _treatment(call),
    }


def summary(call: Call, now: float) -> Report:
    """A line of a list of calls."""
    return {
        "call-id": call.call_id,
        "state": str(call.state),
        "age_s": round(now - call.created, 3),
        "worker": call.worker,
        "from-tag": call.caller.tag,
        "to-tag": call.selected.tag if call.selected is not None else "",
        "legs": len(call.legs()),
        "on_hold": call.held and call.state == "active",
        "denoise": _treatment(call),
    }


def statistics(calls: Iterable[Call], started: int, refused: int) -> Report:
    """The gateway as a whole, for NG's `statistics`."""
    present = list(calls)
    legs = [leg for call in present for leg in call.legs()]
    return {
        "currentstatistics": {"sessionsown": len(present), "sessionsforeign": 0, "sessionstotal": len(present)},
        "totalstatistics": {"managedsessions": started, "rejectedsessions": refused},
        "streams": {"legs": len(legs), **_totals(legs)},
    }


def _treatment(call: Call) -> Report:
    treatment = call.treatment
    return {
        "denoise": "both" if treatment.both else "none",
        "level": treatment.level,
        "music": treatment.music,
        "bypass": treatment.bypass,
        "latched": int(call.latched),
    }


def _totals(legs: Iterable[Leg]) -> Report:
    stats = [leg.stats for leg in legs]
    return {
        "packets": sum(each.packets for each in stats),
        "bytes": sum(each.bytes for each in stats),
        "errors": sum(each.errors for each in stats),
    }


def _ssrc(stats: Stats) -> Report:
    return {
        "packets": stats.packets,
        "bytes": stats.bytes,
        "packets lost": stats.lost,
        "jitter": round(stats.jitter_ms),
    }


def _party(call: Call, party: Party, unix_offset_s: float) -> Report:
    other = call.other(party)
    report: Report = {
        "tag": party.tag,
        "created": int(party.created + unix_offset_s),
        "medias": [_media(index, party, line, unix_offset_s) for index, line in enumerate(party.lines)],
    }
    if party.label is not None:
        report["label"] = party.label
    if party.via_branch is not None:
        report["via-branch"] = party.via_branch
    if other is not None and other.tag:
        report["in dialogue with"] = other.tag
    return report


def _media(index: int, party: Party, line: Line, unix_offset_s: float) -> Report:
    flags = ["initialized"] * (line.leg is not None) + ["rtcp-mux"] * line.mux
    return {
        "index": index + 1,
        "type": line.media.kind if line.media is not None else str(line.kind),
        "protocol": line.media.transport if line.media is not None else "",
        "flags": flags,
        "streams": [] if line.leg is None else _streams(party, line, line.leg, unix_offset_s),
    }


def _streams(party: Party, line: Line, leg: Leg, unix_offset_s: float) -> list[Report]:
    stats, media = leg.stats, line.media
    rtp_advertised = media.rtp_remote if media is not None else None
    rtcp_advertised = media.rtcp_remote if media is not None else None
    rtp: Report = {
        "local port": leg.pair.port,
        "flags": ["RTP", *(["filled"] * (rtp_advertised is not None)), *(["confirmed"] * (leg.pinned is not None))],
        "stats": {"packets": stats.packets, "bytes": stats.bytes, "errors": stats.errors},
        "last packet": int(stats.last_packet_s + unix_offset_s) if stats.last_packet_s else 0,
        "denoise": {
            "wet": int(stats.wet),
            "on": int(leg.told is not None and leg.told.denoise),
            "frames wet": stats.frames_wet,
            "frames dry": stats.frames_dry,
            "reason": Reason(stats.reason).name.lower(),
            "events": [_event(event) for event in leg.events],
        },
        **_endpoints(leg.pinned or party.remote(rtp_advertised), rtp_advertised),
    }
    if stats.ssrc_in:
        rtp["SSRC"] = stats.ssrc_in
    rtcp: Report = {
        "local port": leg.pair.port + 1,
        "flags": ["RTCP", *(["filled"] * (rtcp_advertised is not None))],
        "stats": {"packets": 0, "bytes": 0, "errors": 0},
        **_endpoints(leg.pinned_rtcp or party.remote(rtcp_advertised), rtcp_advertised),
    }
    return [rtp] if line.mux else [rtp, rtcp]


def _event(event: Detected) -> Report:
    """Values that are not known are left out: bencode has no null, and no fractions."""
    report: Report = {"kind": event.kind, "value": event.value, "begin_ms": round(event.begin_ms)}
    for name in ("lasting_ms", "level_dbm0", "twist_db"):
        value = getattr(event, name)
        if value is not None:
            report[name] = round(value)
    return report


def _endpoints(used: Address | None, advertised: Address | None) -> Report:
    report: Report = {}
    if used is not None:
        report["endpoint"] = _endpoint(used)
    if advertised is not None:
        report["advertised endpoint"] = _endpoint(advertised)
    return report


def _endpoint(address: Address) -> Report:
    return {"family": "IPv6" if ":" in address[0] else "IPv4", "address": address[0], "port": address[1]}
