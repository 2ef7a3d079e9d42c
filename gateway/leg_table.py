"""All legs of all calls, by worker and slot: where they get ports and leases, what workers are told and report.

The table owns what a leg takes from outside and gives it back; `calls` decides when. What is to be sent gathers in
`orders`, in the order in which it must go.
"""

from collections.abc import Iterable
from typing import NamedTuple, Protocol

import numpy as np
from msgspec.structs import replace

from gateway.call import Call
from gateway.errors import CallerError
from gateway.leases import Leases
from gateway.legs import Leg, Ports, Stats
from gateway.messages import LEG_STATS, CloseLeg, Command, Detected, Latched, Lease, LegSpec, OpenLeg, UpdateLeg
from gateway.parties import Party


class Owner(Protocol):
    """Who a leg belongs to: a call, or a stream that ends in the control plane."""

    call_id: str
    worker: int
    latched: bool

    def specs(self) -> Iterable[tuple[Leg, LegSpec]]:
        """The present description of every leg."""


class Order(NamedTuple):
    """A command for a worker."""

    worker: int
    command: Command
    leg: Leg | None = None
    """Whose sockets go along."""


class LegTable:
    """The legs there are."""

    def __init__(self, ports: Ports, leases: Leases) -> None:
        self.ports, self.leases = ports, leases
        self._legs: dict[tuple[int, int], tuple[Owner, Leg]] = {}
        self._orders: list[Order] = []

    def take_orders(self) -> list[Order]:
        """What is to be sent since the last time."""
        orders, self._orders = self._orders, []
        return orders

    def allocate(self, call: Call, missing: list[tuple[Party, int]], now: float) -> None:
        """A leg for each of these lines, or for none: raises OutOfPortsError or OutOfSlotsError."""
        made: list[tuple[Party, int, Leg]] = []
        try:
            for party, index in missing:
                made.append((party, index, self._new_leg(call, party, now)))
        except CallerError:
            for _, _, leg in made:
                self.ports.close(leg.pair, now)
                self.leases.give_back(call.worker, leg.lease)
            raise
        for party, index, leg in made:
            party.line(index).leg = leg
            self._legs[call.worker, leg.lease.slot] = (call, leg)

    def _new_leg(self, call: Call, party: Party, now: float) -> Leg:
        pair = self.ports.open(party.interface.address, call.tos, now)
        try:
            return Leg(self.leases.take(call.worker), pair)
        except CallerError:
            self.ports.close(pair, now)
            raise

    def attach(self, owner: Owner, leg: Leg) -> None:
        """A leg whose sockets and lease its owner has got itself; see `detach`."""
        self._legs[owner.worker, leg.lease.slot] = (owner, leg)

    def detach(self, owner: Owner, leg: Leg) -> None:
        """End such a leg, and its lease; the sockets stay its owner's."""
        self._orders.append(Order(owner.worker, CloseLeg(leg.lease)))
        self.leases.give_back(owner.worker, leg.lease)
        del self._legs[owner.worker, leg.lease.slot]

    def mark(self, call: Call, tos: int) -> None:
        """Set the TOS byte of all that the call sends."""
        call.tos = tos
        for leg in call.legs():
            self.ports.mark(leg.pair, tos)

    def tell(self, call: Owner) -> None:
        """Orders for every leg whose description has changed."""
        for leg, spec in call.specs():
            if leg.told is None:
                self._orders.append(Order(call.worker, OpenLeg(spec), leg))
            elif leg.told != spec:
                self._orders.append(Order(call.worker, UpdateLeg(spec)))
            leg.told = spec

    def close(self, call: Call, leg: Leg, now: float) -> None:
        """End a leg."""
        self._orders.append(Order(call.worker, CloseLeg(leg.lease)))
        self.ports.close(leg.pair, now)
        self.leases.give_back(call.worker, leg.lease)
        del self._legs[call.worker, leg.lease.slot]

    def reported(self, worker: int, rows: bytes) -> None:
        """Take over a worker's `LegStats.rows`; rows of ended leases are ignored."""
        for slot, generation, *values in np.frombuffer(rows, LEG_STATS).tolist():
            _, leg = self._legs.get((worker, slot), (None, None))
            if leg is not None and leg.lease.generation == generation:
                leg.reported = Stats(*values)

    def latched(self, worker: int, event: Latched) -> str | None:
        """Keep a leg's learned source for the next worker; returns its call-id."""
        call, leg = self._holder(worker, event.lease)
        if call is None or leg is None:
            return None
        leg.pinned, leg.pinned_rtcp = event.rtp, event.rtcp
        return call.call_id

    def detected(self, worker: int, event: Detected) -> str | None:
        """Keep what a detector heard; returns the call-id."""
        call, leg = self._holder(worker, event.lease)
        if call is None or leg is None:
            return None
        leg.events.append(event)
        return call.call_id

    def call_latched(self, worker: int, lease: Lease) -> str | None:
        """A fax: the whole call is left alone, in any worker that ever has it; returns the call-id when that is new."""
        call, _ = self._holder(worker, lease)
        if call is None or call.latched:
            return None
        call.latched = True
        self.tell(call)
        return call.call_id

    def _holder(self, worker: int, lease: Lease) -> tuple[Owner, Leg] | tuple[None, None]:
        """Whose lease this is, if it is not an old one."""
        call, leg = self._legs.get((worker, lease.slot), (None, None))
        return (call, leg) if call is not None and leg is not None and leg.lease == lease else (None, None)

    def reopen(self, worker: int) -> list[Order]:
        """A new process takes this worker's place: everything it has to open."""
        orders = []
        for (place, _), (_, leg) in self._legs.items():
            if place == worker and leg.told is not None:
                leg.earlier, leg.reported = leg.stats, Stats()
                spec = replace(leg.told, pinned=leg.pinned, pinned_rtcp=leg.pinned_rtcp)
                orders.append(Order(worker, OpenLeg(spec), leg))
        return orders

    def in_use(self, worker: int) -> int:
        """Legs that a worker has."""
        return self.leases.positions[worker].legs
