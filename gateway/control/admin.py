"""The admin interface over HTTP: health, readiness, metrics, and the running calls with their denoise controls.

Errors are JSON, `{"error": what is wrong, "hint": what would be right}`, with the status that fits: 400 for a wrong
request, 404 for an unknown call. Who is not on the list is not answered at all.
"""

import asyncio
import json
import logging
import time
from collections.abc import Callable
from functools import partial

from aiohttp import web
from aiohttp.typedefs import Handler

from gateway import call_report
from gateway.calls import Calls, UnknownCallError, whole_number
from gateway.config import AdminConfig
from gateway.control.allow import AllowList, Door, host_and_port
from gateway.control.rest import Rest
from gateway.control.workers import Workers
from gateway.errors import CallerError
from gateway.metrics import Metrics
from gateway.protocol import ng

log = logging.getLogger(__name__)

KEEPALIVE_S = 20.0
"""A connection on which nothing is asked is closed after it."""
MAX_BODY_BYTES = 16 * 1024
DEFAULT_PAGE = 100
MAX_PAGE = 1000
CHOICES = {"denoise": ("on", "off", "both", "none"), "music": ("pass", "suppress"), "bypass": ("auto", "on", "off")}
HINT = (
    'send an object such as {"denoise": "both", "level": 80, "music": "pass", "bypass": "auto"}; '
    'denoise "on" or "off" needs a "tag"'
)


class Admin:
    """The handlers."""

    def __init__(
        self,
        calls: Calls,
        workers: Workers,
        metrics: Metrics,
        rest: Rest | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rest = rest
        self._calls, self._workers, self._metrics, self._clock = calls, workers, metrics, clock

    def application(self) -> web.Application:
        """The application with all its routes."""
        app = web.Application(middlewares=[explain], client_max_size=MAX_BODY_BYTES)
        app.router.add_get("/healthz", self.health)
        app.router.add_get("/readyz", self.ready)
        app.router.add_get("/metrics", self.show_metrics)
        app.router.add_get("/calls", self.list_calls)
        app.router.add_get("/calls/{call_id}", self.show_call)
        app.router.add_patch("/calls/{call_id}", self.change_call)
        if self._rest is not None:
            app.router.add_post("/v1/denoise", self._rest.denoise)
        return app

    async def health(self, request: web.Request) -> web.Response:
        """The control plane lives."""
        return web.json_response({"status": "ok"})

    async def ready(self, request: web.Request) -> web.Response:
        """200 when new calls are taken; else 503, and why not. `degraded` tells of engines that fail."""
        missing = self._workers.missing() + ["draining: no new calls"] * self._calls.draining
        status: dict[str, object] = {"status": "not ready" if missing else "ready", "missing": missing}
        status |= {"degraded": self._workers.degraded(), "calls": len(self._calls)}
        return web.json_response(status, status=503 if missing else 200)

    async def show_metrics(self, request: web.Request) -> web.Response:
        """For Prometheus."""
        return web.Response(body=self._metrics.render(), headers={"Content-Type": "text/plain; version=0.0.4"})

    async def list_calls(self, request: web.Request) -> web.Response:
        """`?offset=0&limit=100`: calls, oldest first; `next` is the offset of the next page, or null."""
        offset = whole_number(request.query.get("offset", "0"), "offset", 0, 10**9)
        limit = whole_number(request.query.get("limit", str(DEFAULT_PAGE)), "limit", 1, MAX_PAGE)
        now = self._clock()
        page = [call_report.summary(call, now) for call in self._calls.page(offset, limit)]
        more = offset + limit < len(self._calls)
        body = {"calls": page, "total": len(self._calls), "next": offset + limit if more else None}
        return web.json_response(body)

    async def show_call(self, request: web.Request) -> web.Response:
        """Everything about a call."""
        call_id = request.match_info["call_id"]
        self._calls.get(call_id)
        wanted = self._calls.slots_of(call_id)
        if wanted is not None:
            await self._workers.read(*wanted)
        return web.json_response(self._report(call_id))

    async def change_call(self, request: web.Request) -> web.Response:
        """Change the denoise controls of a running call; answers with the call."""
        call_id = request.match_info["call_id"]
        self._calls.get(call_id)
        controls, tag = parse_controls((await request.read()).decode())
        orders = self._calls.control(call_id, controls, tag, self._clock())
        self._workers.send(orders)
        log.info("denoise controls changed", extra={"call_id": call_id, "legs": len(orders)})
        return web.json_response(self._report(call_id))

    def _report(self, call_id: str) -> call_report.Report:
        call = self._calls.get(call_id)
        return {"call-id": call_id, **call_report.full(call, self._calls.unix_offset_s)}


def parse_controls(text: str) -> tuple[ng.Controls, str | None]:
    """The body of a PATCH: controls, and the tag of the party they mean. Raises CallerError."""
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        raise CallerError("The body is no JSON") from None
    if not isinstance(body, dict) or not body:
        raise CallerError("The body must be an object with at least one control")
    unknown = set(body) - {*CHOICES, "level", "tag"}
    if unknown:
        raise CallerError(
            f"Unknown control {', '.join(sorted(unknown))[:100]}: known are denoise, level, music, bypass"
        )
    for name, choices in CHOICES.items():
        if name in body and body[name] not in choices:
            raise CallerError(f"{name} must be one of {', '.join(choices)}")
    level, tag = body.get("level"), body.get("tag")
    if level is not None and (type(level) is not int or not 0 <= level <= 100):
        raise CallerError("level must be a whole number from 0 to 100")
    if tag is not None and not isinstance(tag, str):
        raise CallerError("tag must be a string")
    return ng.Controls(body.get("denoise"), level, body.get("music"), bypass=body.get("bypass")), tag


@web.middleware
async def explain(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Errors as JSON."""
    try:
        return await handler(request)
    except UnknownCallError as error:
        return web.json_response({"error": str(error), "hint": "GET /calls lists the running calls"}, status=404)
    except CallerError as error:
        hint = HINT if request.method == "PATCH" else "see the error"
        return web.json_response({"error": str(error), "hint": hint}, status=400)
    except UnicodeDecodeError:
        return web.json_response({"error": "The body is no UTF-8", "hint": HINT}, status=400)
    except web.HTTPException as error:
        hint = "/healthz, /readyz, /metrics, /calls, /calls/{call-id} and POST /v1/denoise are here"
        return web.json_response({"error": error.reason, "hint": hint}, status=error.status)


class Runner(web.AppRunner):
    """Serves those on the allow-list."""

    def __init__(self, app: web.Application, allow: AllowList) -> None:
        super().__init__(app, access_log=None, keepalive_timeout=KEEPALIVE_S)
        self._allow = allow

    @property
    def server(self) -> Callable[[], asyncio.Protocol] | None:  # type: ignore[override]  # called for each connection
        """What a site gives its connections to."""
        server = super().server
        return None if server is None else partial(Door, self._allow, server)


async def listen(config: AdminConfig, admin: Admin) -> web.AppRunner:
    """Serve on the configured address. Raises ConfigError or OSError."""
    host, port = host_and_port(config.listen, "admin.listen")
    runner = Runner(admin.application(), AllowList("admin.allow", config.allow))
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError:
        await runner.cleanup()
        raise
    return runner
