"""All calls: requests of the NG protocol in, replies and commands to the workers out. Sans-IO; time is an argument.

A request that fails half-way takes nothing, and whichever way a call ends, it gives everything back.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from gateway import call_report
from gateway.call import MAX_BRANCHES, Call, Event, State, Treatment
from gateway.config import Config
from gateway.errors import CallerError
from gateway.leases import Leases, LoadLimitError
from gateway.leg_table import LegTable, Order
from gateway.legs import Interface, OutOfPortsError, Ports
from gateway.negotiation import carried, check_ids, choose_interface, family_of, our_endpoint, parse_sdp
from gateway.parties import Party
from gateway.protocol import ng, sdp

DEFAULT_LIST = 32
MAX_LIST = 1000
TIMER_C_S = 180.0
"""How long a proxy lets a fork ring (RFC 3261 section 16.6, step 11)."""


class Ended(NamedTuple):
    """A call that is no more."""

    call_id: str
    reason: str
    lived_s: float


class Outcome(NamedTuple):
    """What a request led to."""

    reply: dict[str, object]
    orders: list[Order]


class UnknownCallError(CallerError):
    """No call has this call-id, or none with these tags."""


class Calls:
    """The registry."""

    def __init__(
        self,
        config: Config,
        interfaces: Mapping[str, Interface],
        ports: Ports,
        leases: Leases,
        unix_offset_s: float = 0.0,
    ) -> None:
        """unix_offset_s: what to add to the monotonic clock to get Unix time."""
        self._limits, self._denoise, self._model = config.calls, config.denoise, config.engine.model
        self._interfaces, self.legs = interfaces, LegTable(ports, leases)
        self.unix_offset_s = unix_offset_s
        self._calls: dict[str, Call] = {}
        self.ended: list[Ended] = []
        """Since someone last took them; see `take_ended`."""
        self.started_total = self.refused_total = 0
        self.draining = False
        self._commands: dict[str, Callable[[ng.Request, float], dict[str, object]]] = {
            "ping": lambda request, now: ng.pong(),
            "offer": self._offer,
            "answer": self._answer,
            "delete": self._delete,
            "query": self._query,
            "list": self._list,
            "statistics": self._statistics,
        }

    # --- requests

    def handle(self, request: ng.Request, now: float) -> Outcome:
        """Serve one request. The orders are to be sent in their order, whatever the reply says."""
        try:
            reply = self._serve(request, now)
        except LoadLimitError as error:
            self.refused_total += 1
            supported = "load limit" in supports(request)
            reply = ng.load_limit(str(error)) if supported else ng.error(ng.PARALLEL_SESSION_LIMIT)
        except OutOfPortsError:
            reply = ng.error(ng.OUT_OF_PORTS)
        except CallerError as error:
            reply = ng.error(str(error))
        return Outcome(reply, self.legs.take_orders())

    def serves(self, command: str) -> bool:
        """Whether there is such a command."""
        return command in self._commands

    def _serve(self, request: ng.Request, now: float) -> dict[str, object]:
        serve = self._commands.get(request.command)
        if serve is None:
            raise CallerError(f"Unrecognized command '{request.command}': supported are {', '.join(self._commands)}")
        return serve(request, now)

    def _offer(self, request: ng.Request, now: float) -> dict[str, object]:
        call_id = check_ids(request)
        if not request.from_tag:
            raise CallerError("No from-tag in message")
        session = parse_sdp(request)
        self._check_model(request)
        call = self._calls.get(call_id)
        if call is not None and call.state is State.ENDING and call.find(request.from_tag) is None:
            self._end(call, "deleted", now)
            call = None
        call = call or self._new_call(request, session, now)
        speaker, listener = call.roles_of_offer(request)
        check_families(speaker, session)
        callee = None if listener is not None else self._new_callee(call, speaker, request, now)
        listener = listener or callee or call.caller
        speaker.learn_tag(request.from_tag)
        listener.learn_tag(request.to_tag)
        self.legs.allocate(call, call.missing(speaker, listener, session), now)
        if callee is not None:
            call.add_branch(callee)
        self._register(call)
        call.move(Event.OFFER, now)
        call.take(speaker, listener, request)
        call.hear_offer(speaker, listener, session, request)
        self._settle(call, speaker, listener, session, request, now)
        return self._reply(request, speaker, listener, session)

    def _answer(self, request: ng.Request, now: float) -> dict[str, object]:
        check_ids(request)
        if not request.from_tag or not request.to_tag:
            raise CallerError("No from-tag or no to-tag in message")
        session = parse_sdp(request)
        self._check_model(request)
        call = self._known(request)
        speaker, listener = call.roles_of_answer(request)
        check_families(speaker, session)
        speaker.learn_tag(request.to_tag)
        listener.learn_tag(request.from_tag)
        call.move(Event.ANSWER, now)
        call.take(speaker, listener, request)
        call.hear_answer(speaker, listener, session)
        self._settle(call, speaker, listener, session, request, now)
        return self._reply(request, speaker, listener, session)

    def _delete(self, request: ng.Request, now: float) -> dict[str, object]:
        check_ids(request)
        try:
            call = self._known(request)
            if request.from_tag and not any(call.find(tag) for tag in (request.from_tag, request.to_tag)):
                raise UnknownCallError(f"{ng.UNKNOWN_CALL} or tags")
            if means_a_fork_that_is_gone(call, request):
                raise UnknownCallError("Unknown fork of a call that goes on")
        except UnknownCallError as error:
            if "fatal" in request.flags:
                raise
            return ng.ok(warning=str(error))
        reply = ng.ok(**call_report.full(call, self.unix_offset_s))
        delay_s = self._limits.delete_delay_s if request.delete_delay_s is None else request.delete_delay_s
        fork = fork_to_delete(call, request)
        if fork is not None:
            fork.delete_at = now + delay_s
            call.signalled = now
        else:
            call.move(Event.DELETE, now)
            call.delete_at = now + delay_s
        self._reap(call, now)
        return reply

    def _query(self, request: ng.Request, now: float) -> dict[str, object]:
        check_ids(request)
        call = self._known(request)
        return ng.ok(**call_report.full(call, self.unix_offset_s))

    def _list(self, request: ng.Request, now: float) -> dict[str, object]:
        limit = whole_number(request.extra.get("limit", DEFAULT_LIST), "limit", 1, MAX_LIST)
        return ng.ok(calls=list(self._calls)[:limit])

    def _statistics(self, request: ng.Request, now: float) -> dict[str, object]:
        return ng.ok(statistics=call_report.statistics(self._calls.values(), self.started_total, self.refused_total))

    def _check_model(self, request: ng.Request) -> None:
        if request.controls.model not in (None, self._model):
            raise CallerError(f"denoise-model {request.controls.model} is not loaded: {self._model} is")

    def _known(self, request: ng.Request) -> Call:
        call = self._calls.get(request.call_id or "")
        if call is None:
            raise UnknownCallError(ng.UNKNOWN_CALL)
        return call

    # --- the life of a call

    def _new_call(self, request: ng.Request, session: sdp.Session, now: float) -> Call:
        """A call that is not registered yet; raises LoadLimitError."""
        if self.draining:
            raise LoadLimitError("The gateway is shutting down")
        if self._limits.max_sessions and len(self._calls) >= self._limits.max_sessions:
            raise LoadLimitError(ng.PARALLEL_SESSION_LIMIT)
        live_lines = sum(carried(media) for media in session.media)
        worker = self.legs.leases.choose(2 * live_lines)
        name = request.direction[0] if request.direction else None
        interface = choose_interface(self._interfaces, name, family_of(session))
        defaults = self._denoise
        treatment = Treatment(defaults.denoise == "both", defaults.level, defaults.music, defaults.bypass)
        caller = Party(now, interface, tags=[request.from_tag or ""])
        return Call(request.call_id or "", worker, now, caller, treatment, tos=request.tos)

    def _new_callee(self, call: Call, speaker: Party, request: ng.Request, now: float) -> Party:
        if len(call.branches) >= MAX_BRANCHES:
            raise CallerError(f"Too many branches in one call (at most {MAX_BRANCHES}): delete some first")
        name = request.direction[1] if len(request.direction) > 1 else None
        family = request.address_family or (None if name else speaker.interface.family)
        interface = choose_interface(self._interfaces, name, family)
        return Party(now, interface, via_branch=request.via_branch)

    def _register(self, call: Call) -> None:
        if call.call_id not in self._calls:
            self._calls[call.call_id] = call
            self.started_total += 1

    def _settle(
        self, call: Call, speaker: Party, listener: Party, session: sdp.Session, request: ng.Request, now: float
    ) -> None:
        """Everything that follows from a heard SDP: legs that died, the TOS byte, and what the worker must know."""
        for leg in call.dead_legs(speaker, listener, session):
            self.legs.close(call, leg, now)
        if request.tos is not None and request.tos != call.tos:
            self.legs.mark(call, request.tos)
        self.legs.tell(call)

    def _reply(self, request: ng.Request, speaker: Party, listener: Party, session: sdp.Session) -> dict[str, object]:
        """The SDP for the listener. A line without a leg on either side is rejected: it would be silent."""
        endpoints = [
            our_endpoint(request, listener, listener.line(index), media) if speaker.line(index).leg else None
            for index, media in enumerate(session.media)
        ]
        text = sdp.rewrite(session, endpoints, replace=request.replace, remove_ice=True)
        return ng.ok(sdp=text)

    def _reap(self, call: Call, now: float) -> None:
        """End the call, or those of its forks, whose time has come."""
        over = [branch for branch in call.branches if branch.delete_at is not None and branch.delete_at <= now]
        if len(over) == len(call.branches) or (call.delete_at is not None and call.delete_at <= now):
            self._end(call, "deleted", now)
        elif over:
            for branch in over:
                call.remove_branch(branch)
                for line in branch.lines:
                    if line.leg is not None:
                        self.legs.close(call, line.leg, now)
            self.legs.tell(call)

    def _end(self, call: Call, reason: str, now: float) -> None:
        for leg in call.legs():
            self.legs.close(call, leg, now)
        del self._calls[call.call_id]
        self.ended.append(Ended(call.call_id, reason, now - call.created))

    def end_all(self, reason: str, now: float) -> None:
        """End every call; there are no workers left to tell."""
        for call in list(self._calls.values()):
            self._end(call, reason, now)
        self.legs.take_orders()

    def expire(self, now: float) -> list[Order]:
        """End what has been silent or old for too long, and what was deleted with a delay."""
        for call in list(self._calls.values()):
            reason = self._overdue(call, now)
            if reason is not None:
                self._end(call, reason, now)
            else:
                self._reap(call, now)
        return self.legs.take_orders()

    def _overdue(self, call: Call, now: float) -> str | None:
        limits = self._limits
        if limits.final_timeout_s and now - call.created >= limits.final_timeout_s:
            return "final timeout"
        patience_s = max(limits.silent_timeout_s, limits.media_timeout_s) if call.held else limits.media_timeout_s
        if call.rings and call.was_answered:  # was it a BYE, nobody may ever say that the others were cancelled
            patience_s = min(patience_s, max(TIMER_C_S, limits.media_timeout_s))
        if now - call.last_life_s() >= patience_s:
            return "silent timeout" if call.held else "media timeout"
        return None

    # --- the workers

    def slots_of(self, call_id: str) -> tuple[int, tuple[int, ...]] | None:
        """The worker and slots to read for exact statistics of a call."""
        call = self._calls.get(call_id)
        return (call.worker, tuple(leg.lease.slot for leg in call.legs())) if call is not None else None

    # --- the admin interface

    def __len__(self) -> int:
        return len(self._calls)

    def get(self, call_id: str) -> Call:
        """Raises UnknownCallError."""
        call = self._calls.get(call_id)
        if call is None:
            raise UnknownCallError(ng.UNKNOWN_CALL)
        return call

    def page(self, offset: int, limit: int) -> list[Call]:
        """Some calls, oldest first."""
        return list(self._calls.values())[offset : offset + limit]

    def control(self, call_id: str, controls: ng.Controls, tag: str | None, now: float) -> list[Order]:
        """Change the denoise controls of a running call; `tag` says whose audio `on` or `off` means.

        Raises UnknownCallError or CallerError.
        """
        call = self.get(call_id)
        party = call.find(tag)
        if tag is not None and party is None:
            raise CallerError(f"No party of this call has the tag '{tag}'")
        if controls.denoise in ("on", "off"):
            if party is None:
                raise CallerError("denoise on or off needs the tag of a party; both or none mean the call")
            party.denoise = controls.denoise == "on"
        elif controls.denoise is not None:
            for each in call.parties():
                each.denoise = None
        call.treatment.take(controls)
        self.legs.tell(call)
        return self.legs.take_orders()

    def take_ended(self) -> list[Ended]:
        """Calls that ended since the last time."""
        ended, self.ended = self.ended, []
        return ended


def supports(request: ng.Request) -> tuple[str, ...]:
    """Extensions that the proxy says it understands."""
    value = request.extra.get("supports", ())
    return tuple(str(item) for item in value) if isinstance(value, list | tuple) else (str(value),)


def whole_number(value: object, name: str, low: int, high: int) -> int:
    """An integer, or one written out; else CallerError."""
    text = str(value)
    if not text.isascii() or not text.isdigit() or len(text) > 10 or not low <= int(text) <= high:
        raise CallerError(f"{name} must be a whole number from {low} to {high}")
    return int(text)


def fork_to_delete(call: Call, request: ng.Request) -> Party | None:
    """The one fork that a delete means, or None: the whole call.

    A fork named by its via-branch, or beside the caller by its to-tag, leaves the others, ringing or answered, as in
    rtpengine (`call_delete_branch`): it may have sent early media and failed. A fork that hangs up itself leaves only
    those that were answered too: its BYE follows a 200, which cancels the others (RFC 3261 sections 15 and 16.7). A
    via-branch that was never heard of means the whole call: that of a BYE is always a new one.
    """
    by_via = call.by_via(request.via_branch)
    if by_via is not None:
        return by_via if len(call.branches) > 1 else None
    parties = (call.find(request.from_tag), call.find(request.to_tag))
    forks = [party for party in parties if party is not None and party is not call.caller]
    if not request.to_tag or not forks:
        return None
    cancelled = forks[0] is parties[0]
    others = [branch for branch in call.branches if branch is not forks[0]]
    return forks[0] if any(branch.answered or not cancelled for branch in others) else None


def means_a_fork_that_is_gone(call: Call, request: ng.Request) -> bool:
    """Whether a delete names a fork that is not there any more, or never was: the live ones go on.

    Proxies delete a fork twice: its 487 comes by the reply route and by the failure route. A to-tag that nobody has is
    ignored as in rtpengine (`call_delete_branch`), unless no fork was answered: then tags are not known yet. Where only
    the via-branch tells, rtpengine ends the whole call; we remember.
    """
    if call.by_via(request.via_branch) is not None:
        return False
    if not request.to_tag:
        return request.via_branch in call.removed
    answered = any(branch.answered for branch in call.branches)
    return answered and call.find(request.from_tag) is call.caller and call.find(request.to_tag) is None


def check_families(speaker: Party, session: sdp.Session) -> None:
    """An IPv4 socket cannot reach an IPv6 address: raises CallerError."""
    for media in session.media:
        if media.rejected or media.is_held or media.address is None:
            continue
        family = "IP6" if ":" in media.address else "IP4"
        if family != speaker.interface.family:
            raise CallerError(
                f"The SDP's address is {family}, but this party was given an {speaker.interface.family} one"
            )
