"""Where usage events go from the spool when there is a control plane: its ledger, by `POST /internal/v1/usage`.

Event ids make it idempotent: what was stored although we never saw the answer is a duplicate the next time.
"""

from __future__ import annotations

import orjson
from pydantic import ValidationError

from gateway.contract.internal import EVENTS_PER_BATCH, UsageAck
from gateway.internal import Control, ControlError, Line

ACK_BYTES = 65_536
SILENT, TOTAL = 10.0, 20.0
"""Seconds: a database that is slow with a thousand rows is given this long."""


class HttpSink:
    """See `gateway.usage.shipper.Sink`."""

    def __init__(self, control: Control, gateway: str) -> None:
        self._control = control
        self._gateway = orjson.dumps(gateway)
        self.line = Line("usage")
        self.quarantined = 0
        """Events that control did not accept; it keeps them, with the reason."""

    async def deliver(self, payloads: list[bytes]) -> None:
        """See `gateway.usage.shipper.Sink.deliver`. ControlError leaves all of them to a later, repeated delivery."""
        try:
            for start in range(0, len(payloads), EVENTS_PER_BATCH):
                await self._post(payloads[start : start + EVENTS_PER_BATCH])
        except ControlError as exc:
            self.line.failed(exc)
            raise
        self.line.worked()

    async def _post(self, events: list[bytes]) -> None:
        body = b'{"gateway":%b,"events":[%b]}' % (self._gateway, b",".join(events))
        headers = {"content-type": "application/json"}
        answer = await self._control.call(
            "POST", "/usage", most=ACK_BYTES, silent=SILENT, total=TOTAL, headers=headers, body=body
        )
        if answer.status != 200:
            raise ControlError("bad_reply", f"control answered {answer.status} to usage events")
        try:
            ack = UsageAck.model_validate_json(answer.body)
        except ValidationError as exc:
            raise ControlError("bad_reply", "the answer to usage events is no UsageAck") from exc
        if ack.stored + ack.duplicates + ack.quarantined != len(events):
            raise ControlError("bad_reply", "control does not account for every usage event that it was sent")
        self.quarantined += ack.quarantined
