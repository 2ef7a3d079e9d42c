"""What a person reads when the gateway starts: where it listens, what runs, and the lines that connect Kamailio."""

from gateway.app import Listening
from gateway.config import Config
from gateway.denoise.engines import RATES_HZ, brought, model_name, serving

KAMAILIO = """\
Put this into kamailio.cfg, and call rtpengine_manage() in the routes that see an SDP, and for BYE (docs/kamailio.md):

    loadmodule "rtpengine.so"
    modparam("rtpengine", "rtpengine_sock", "{sockets}")
    rtpengine_manage("replace-origin replace-session-connection ICE=remove denoise=on");
"""


def text(config: Config, listening: Listening) -> str:
    """Addresses, models and Kamailio's lines of a gateway that is ready."""
    media, denoise = config.media, config.denoise
    lines = [
        "denoise-gateway is ready",
        f"  NG, from the SIP proxy   {', '.join('udp:' + address for address in listening.ng)}",
        f"  admin HTTP               http://{listening.admin}  /healthz /readyz /metrics /calls",
    ]
    if listening.grpc is not None:
        lines.append(
            f"  gRPC DenoiseStream       {listening.grpc}{'' if config.grpc.tls_certificate else ' (plain text)'}"
        )
    for interface in listening.interfaces.values():
        shown = "" if interface.advertise == interface.address else f", {interface.advertise} in SDP"
        ports = f"{media.port_min}-{media.port_max}"
        lines.append(f"  media, {interface.name:<18}udp:{_bracketed(interface.address)}:{ports}{shown}")
    lines += [
        f"  media processes          {listening.workers}, {media.slots} legs each",
        f"  models                   {_models(config)}",
        f"  denoise                  {denoise.denoise}, level {denoise.level}, music {denoise.music}, "
        f"bypass {denoise.bypass}",
        "",
        KAMAILIO.format(sockets=" ".join(_reachable(address) for address in listening.ng)),
    ]
    return "\n".join(lines)


def _models(config: Config) -> str:
    if config.engine.kind == "passthrough":
        return "none: engine.kind is passthrough, nothing is denoised"
    if config.engine.kind == "triton":
        served = [model_name(config.engine.model, rate) for rate in RATES_HZ]
        return f"{config.engine.model} ({', '.join(served)}) on Triton at {', '.join(config.engine.endpoints)}"
    if config.engine.kind != "ort":
        return f"none: engine.kind is {config.engine.kind}, which takes the calls one by one"
    if brought(config.engine):
        return config.engine.model
    graphs = [serving(config.engine.model, rate).name for rate in RATES_HZ]
    return f"{config.engine.model} ({', '.join(graphs)})"


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _reachable(address: str) -> str:
    """As Kamailio on the same host writes it; a wildcard address is reached over loopback."""
    if address.startswith("["):
        return "udp6:" + address.replace("[::]:", "[::1]:")
    return "udp:" + address.replace("0.0.0.0:", "127.0.0.1:")
