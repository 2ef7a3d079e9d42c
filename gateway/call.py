"""One call: its parties and forks, and what its offers, answers and deletes do to the legs. Sans-IO.

A call has a caller and, for each fork, a callee; the caller's legs are shared by the forks. The latest answer selects
the fork that feeds the caller; the others are received and sent nowhere. What a worker has to know is derived anew
after every change (`specs`), so no change can be half told.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial

from gateway.errors import CallerError
from gateway.legs import Leg
from gateway.messages import Kind, LegSpec
from gateway.negotiation import carried, kind_of
from gateway.parties import Line, Party, payloads_between
from gateway.protocol import ng, sdp

MAX_BRANCHES = 16
MAX_REMOVED = 64
"""Via-branches of removed forks that a call remembers."""


class State(StrEnum):
    """Where a call stands."""

    NEW = "new"
    OFFERED = "offered"
    ACTIVE = "active"
    REOFFERED = "reoffered"
    ENDING = "ending"
    """Deleted, and waiting out its delete delay."""


class Event(StrEnum):
    """What moves it."""

    OFFER = "offer"
    ANSWER = "answer"
    DELETE = "delete"


CALL = {
    (State.NEW, Event.OFFER): State.OFFERED,
    (State.OFFERED, Event.OFFER): State.OFFERED,  # another fork, or the INVITE again with credentials
    (State.OFFERED, Event.ANSWER): State.ACTIVE,
    (State.OFFERED, Event.DELETE): State.ENDING,
    (State.ACTIVE, Event.ANSWER): State.ACTIVE,  # 183 then 200, or another fork
    (State.ACTIVE, Event.OFFER): State.REOFFERED,
    (State.ACTIVE, Event.DELETE): State.ENDING,
    (State.REOFFERED, Event.OFFER): State.REOFFERED,
    (State.REOFFERED, Event.ANSWER): State.ACTIVE,
    (State.REOFFERED, Event.DELETE): State.ENDING,
    (State.ENDING, Event.OFFER): State.REOFFERED,  # signalling that goes on keeps the call
    (State.ENDING, Event.ANSWER): State.ACTIVE,
    (State.ENDING, Event.DELETE): State.ENDING,
}


@dataclass(slots=True)
class Treatment:
    """The denoise controls of a call."""

    both: bool
    level: int
    music: str
    bypass: str

    def take(self, controls: ng.Controls) -> None:
        """What a request said; the rest stays."""
        if controls.denoise in ("both", "none"):
            self.both = controls.denoise == "both"
        self.level = self.level if controls.level is None else controls.level
        self.music = controls.music or self.music
        self.bypass = controls.bypass or self.bypass


@dataclass(slots=True, eq=False)
class Call:
    """A call and all its legs, which live in one worker."""

    call_id: str
    worker: int
    created: float
    """Monotonic clock, as all times here."""
    caller: Party
    treatment: Treatment
    branches: list[Party] = field(default_factory=list)
    selected: Party | None = None
    removed: deque[str] = field(default_factory=partial(deque, maxlen=MAX_REMOVED))
    """Via-branches of forks that were deleted, the latest at the end."""
    state: State = State.NEW
    signalled: float = 0.0
    delete_at: float | None = None
    tos: int | None = None
    was_answered: bool = False
    """Some fork has answered, be it gone since."""
    latched: bool = False
    """A fax or modem was heard: what the parties send passes untouched to the end."""

    def move(self, event: Event, now: float) -> None:
        """Take the step of the table; raises CallerError where there is none."""
        step = CALL.get((self.state, event))
        if step is None:
            raise CallerError(f"{event} is not possible for a call that is {self.state}")
        self.state = step
        self.signalled = now
        if event is not Event.DELETE:
            self.delete_at = None

    # --- who is who

    def parties(self) -> Iterator[Party]:
        """The caller, then each fork's callee."""
        yield self.caller
        yield from self.branches

    def find(self, tag: str | None) -> Party | None:
        """The party with this tag or alias."""
        return next((party for party in self.parties() if tag and tag in party.tags), None)

    def by_via(self, via_branch: str | None) -> Party | None:
        """The fork with this via-branch."""
        return next((party for party in self.branches if via_branch and party.via_branch == via_branch), None)

    def roles_of_offer(self, request: ng.Request) -> tuple[Party, Party | None]:
        """Who offers, to whom; no listener means a new fork. Raises CallerError."""
        speaker = self.find(request.from_tag)
        other = self.find(request.to_tag)
        if speaker is None and other is None:
            raise CallerError("Neither from-tag nor to-tag belongs to this call")
        if speaker is None:
            speaker = self.caller if other is not self.caller else self._fork_of(request)
        if speaker is not self.caller:
            return speaker, self.caller
        if other is not None and other is not self.caller:
            return speaker, other
        return speaker, self._fork_to_offer(request)

    def _fork_to_offer(self, request: ng.Request) -> Party | None:
        """An unseen to-tag is an alias unless `new branch`; an unseen via-branch without to-tag is a new fork.

        With neither, the next callee of a serial fork takes over the ports of the one before.
        """
        known = self.by_via(request.via_branch)
        if request.to_tag:
            return None if "new-branch" in request.flags else known or self.selected
        if request.via_branch:
            return known
        return next((party for party in self.branches if not party.tags), self.selected)

    def roles_of_answer(self, request: ng.Request) -> tuple[Party, Party]:
        """Who answers, whom. Raises CallerError."""
        offerer = self.find(request.from_tag)
        answerer = self.find(request.to_tag)
        if offerer is None and answerer is None:
            raise CallerError("Neither from-tag nor to-tag belongs to this call")
        if offerer is None:
            offerer = self.caller if answerer is not self.caller else self._fork_of(request)
        if offerer is not self.caller:
            return self.caller, offerer
        if answerer is None or answerer is self.caller:
            answerer = self._fork_of(request)
        return answerer, offerer

    def _fork_of(self, request: ng.Request) -> Party:
        """The fork that an unseen tag speaks for: by via-branch, or the first that has no tag, or the selected."""
        untagged = next((party for party in self.branches if not party.tags), None)
        party = self.by_via(request.via_branch) or untagged or self.selected
        if party is None:
            raise CallerError("The call has no callee yet: offer first")
        return party

    def add_branch(self, party: Party) -> None:
        """A new fork; the first one is selected until another answers."""
        self.branches.append(party)
        self.selected = self.selected or party

    def remove_branch(self, party: Party) -> None:
        """The fork is gone; of those left, the latest that was answered is selected."""
        self.branches.remove(party)
        if party.via_branch:
            self.removed.append(party.via_branch)
        if self.selected is party:
            left = [branch for branch in self.branches if branch.answered] or self.branches
            self.selected = left[-1] if left else None

    def other(self, party: Party) -> Party | None:
        """Whom a party talks with."""
        return self.selected if party is self.caller else self.caller

    # --- what was said

    def missing(self, speaker: Party, listener: Party, session: sdp.Session) -> list[tuple[Party, int]]:
        """Lines that need a leg before this offer can be served."""
        return [
            (party, index)
            for index, media in enumerate(session.media)
            for party in (speaker, listener)
            if carried(media) and (index >= len(party.lines) or party.lines[index].leg is None)
        ]

    def take(self, speaker: Party, listener: Party, request: ng.Request) -> None:
        """Take over what an offer or answer says beside its SDP."""
        speaker.delete_at = listener.delete_at = None
        self.treatment.take(request.controls)
        if request.controls.denoise in ("both", "none"):
            for party in self.parties():
                party.denoise = None
        speaker.speak(request)

    def hear_offer(self, speaker: Party, listener: Party, session: sdp.Session, request: ng.Request) -> None:
        """Take over what the speaker's SDP says."""
        self._hear(speaker, session)
        for index, media in enumerate(session.media):
            ours, theirs = speaker.line(index), listener.line(index)
            ours.kind = theirs.kind = kind_of(media)
            ours.hear_mux_offer(request.rtcp_mux, theirs)

    def hear_answer(self, speaker: Party, listener: Party, session: sdp.Session) -> None:
        """Take over what the answerer's SDP says, and let its fork feed the caller."""
        self._hear(speaker, session)
        speaker.answered = True
        if speaker is not self.caller:
            self.selected = speaker
            self.was_answered = True
        for index, _ in enumerate(session.media):
            speaker.line(index).hear_mux_answer(listener.line(index))

    def _hear(self, speaker: Party, session: sdp.Session) -> None:
        for index, media in enumerate(session.media):
            line = speaker.line(index)
            line.media = media
            if line.leg is not None:
                line.leg.reopen_latching()

    def dead_legs(self, speaker: Party, listener: Party, session: sdp.Session) -> list[Leg]:
        """Takes out and returns the legs of m-lines that this SDP rejects or no longer has."""
        dead = []
        for index in range(max(len(speaker.lines), len(listener.lines))):
            if index < len(session.media) and carried(session.media[index]):
                continue
            for party in (speaker, listener):
                line = party.line(index)
                if line.leg is not None and not self._needed_by_forks(party, index, (speaker, listener)):
                    dead.append(line.leg)
                    line.leg = None
        return dead

    def _needed_by_forks(self, party: Party, index: int, dialogue: tuple[Party, Party]) -> bool:
        """The caller's leg serves all forks: it stays while another one has the line."""
        others = [branch for branch in self.branches if branch not in dialogue]
        return party is self.caller and any(
            index < len(branch.lines) and branch.lines[index].leg is not None for branch in others
        )

    # --- what a worker has to know

    def lines(self) -> Iterator[tuple[Party, int, Line, Leg]]:
        """Every line that has a leg."""
        for party in self.parties():
            for index, line in enumerate(party.lines):
                if line.leg is not None:
                    yield party, index, line, line.leg

    def legs(self) -> list[Leg]:
        """Every leg."""
        return [leg for _, _, _, leg in self.lines()]

    def specs(self) -> Iterator[tuple[Leg, LegSpec]]:
        """The present description of every leg."""
        for party, index, line, leg in self.lines():
            yield leg, self._spec(party, index, line, leg)

    def _spec(self, party: Party, index: int, line: Line, leg: Leg) -> LegSpec:
        other = self.other(party)
        opposite = other.lines[index] if other is not None and index < len(other.lines) else None
        linked = party is self.caller or party is self.selected
        media, treatment = line.media, self.treatment
        # Its first SDP says whether a party's audio is denoised; until then its leg must not take on the delay.
        wanted = treatment.both if party.denoise is None else party.denoise
        denoise = wanted and media is not None and line.kind is Kind.AUDIO
        takes_rtcp = media is not None and media.is_rtp and not line.mux
        return LegSpec(
            slot=leg.lease.slot,
            generation=leg.lease.generation,
            call_id=self.call_id,
            kind=line.kind,
            peer=opposite.leg.lease.slot if linked and opposite is not None and opposite.leg is not None else -1,
            rtp_remote=party.remote(media.rtp_remote) if media is not None else None,
            rtcp_remote=party.remote(media.rtcp_remote) if media is not None and takes_rtcp else None,
            rtcp_mux=line.mux,
            received_from=party.received_from,
            latch=party.latch,
            epoch=leg.epoch,
            payloads=payloads_between(line, opposite) if line.kind is Kind.AUDIO else (),
            denoise=denoise,
            level=treatment.level,
            keep_music=treatment.music == "pass",
            bypass=treatment.bypass,
            latched=self.latched,
        )

    # --- time

    @property
    def held(self) -> bool:
        """On hold, or not answered yet: silence is no sign of death."""
        return self.rings or any(line.held for _, _, line, _ in self.lines())

    @property
    def rings(self) -> bool:
        """No fork has answered, of those there are."""
        return not any(branch.answered for branch in self.branches)

    def last_life_s(self) -> float:
        """When something was last heard of the call: signalling, or a packet of the dialogue."""
        return max([self.signalled, *(leg.last_packet_s for leg in self.legs())])
