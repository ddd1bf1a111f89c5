"""The demo: sends the help page's commands once, and verifies the signed calls in a receiver of its own.

The receiver follows rotations as a customer's system can: the change feed tells that there is a new signature, and
`RevealSignature` returns it, sealed for the receiver's own key.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aiohttp import web
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from contracts import topics
from contracts.business_system import OpenBusinessSystem
from contracts.channel import RegisterChannel
from contracts.cursor import InvalidCursor, SequenceGap
from contracts.intent import AddIntent
from contracts.invocation import InvokeIntent
from contracts.kafka.publisher import Outcome, OutcomeTimeout, Publisher, PublisherError
from contracts.kafka.subscriber import BEGINNING, NOW, Change, Subscriber, SubscriberError
from contracts.message import CommandData
from contracts.otp_scheduling import SaveOtpScheduling
from contracts.outcome import CommandAccepted, CommandRejected
from contracts.sealing import SealKey
from contracts.signature import RefreshSignature, RevealSignature, SignatureRefreshed
from contracts.sms import ToggleSms
from services.infrastructure.embedded.process import EmbeddedServerError, free_port

DEMO_ACCOUNT = "acme"
CHANNEL = "demo-whatsapp"
SYSTEM = "crm"
CODE = "ORDER_STATUS"
_SOURCE = "switchboard-demo"
_RECEIVER_TIMEOUT_S = 30
_RETRY_AFTER_S = 1.0


class Demo:
    """The receiver, in a thread of its own, and the walk-through. A context manager.

    Its state across restarts (port, signature secret, cursor, whether the walk-through is done) is one file in the
    data directory, readable by its owner only.
    """

    def __init__(self, data_dir: Path, say: Callable[[str], None]) -> None:
        self._file = data_dir / "demo.json"
        self._state: dict[str, Any] = json.loads(self._file.read_text()) if self._file.exists() else {}
        self._state.setdefault("port", free_port())
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._verified = threading.Event()
        self._say = say
        self._runner: web.AppRunner | None = None
        self._following: asyncio.Task[None] | None = None

    @property
    def address(self) -> str:
        """``host:port``, for SWITCHBOARD_INVOKER_ALLOW."""
        return f"127.0.0.1:{self._state['port']}"

    @property
    def _url(self) -> str:
        return f"http://{self.address}/chat-app"

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            asyncio.run_coroutine_threadsafe(self._serve(), self._loop).result()
        except OSError as error:
            self._loop.call_soon_threadsafe(self._loop.stop)
            raise EmbeddedServerError(
                f"The demo's receiver cannot listen on {self.address} ({error.strerror}); free that port, "
                "or set SWITCHBOARD_DATA_DIR to a fresh directory."
            ) from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _close(self) -> None:
        if self._following is not None:
            self._following.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._following
        if self._runner is not None:
            await self._runner.cleanup()

    def _save(self, **changes: Any) -> None:
        self._state |= changes
        if not self._file.exists():
            self._file.touch(mode=0o600)
        self._file.write_text(json.dumps(self._state))

    async def _serve(self) -> None:
        app = web.Application()
        app.router.add_post("/chat-app", self._receive)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._state["port"]).start()

    async def _receive(self, request: web.Request) -> web.Response:
        """Verifies the signature and answers, as a customer's system does."""
        body = await request.read()
        try:
            event: Any = Webhook(self._state["secret"]).verify(body, dict(request.headers))
        except (WebhookVerificationError, KeyError, ValueError):
            self._say("  Receiver: the signature of a call is NOT valid")
            return web.json_response({"error": "signature"}, status=401)
        self._say(f"  Receiver: verified the signature of {event['type']} for order {event['data'].get('order', '–')}")
        self._verified.set()
        # Says which signature it verified with, which lets the old one be retired.
        known = {"webhook-key-id": self._state["key_id"]} if "key_id" in self._state else None
        return web.json_response({"status": "shipped", "order": event["data"].get("order")}, headers=known)

    def follow_rotations(self, bootstrap_servers: str, security: dict[str, Any]) -> None:
        """From now on, and from where an earlier run ended, each new signature is the receiver's."""

        async def begin() -> None:
            self._following = asyncio.create_task(self._follow(bootstrap_servers, security))

        asyncio.run_coroutine_threadsafe(begin(), self._loop).result()

    async def _follow(self, bootstrap_servers: str, security: dict[str, Any]) -> None:
        subscriber = Subscriber(bootstrap_servers, **security)
        while True:
            since = self._state.get("cursor", BEGINNING)
            try:
                async for change in subscriber.changes(
                    since, account=DEMO_ACCOUNT, channels=[CHANNEL], types=["SignatureRefreshed"]
                ):
                    await self._adopt_signature(change, bootstrap_servers, security)
                    self._save(cursor=change.cursor)
            except (InvalidCursor, SequenceGap):  # the directory was used with another broker before
                self._save(cursor=NOW)
            except (SubscriberError, PublisherError, OutcomeTimeout):
                await asyncio.sleep(_RETRY_AFTER_S)

    async def _adopt_signature(self, change: Change, bootstrap_servers: str, security: dict[str, Any]) -> None:
        refreshed = change.body
        if not isinstance(refreshed, SignatureRefreshed) or refreshed.system != SYSTEM:
            return
        if refreshed.key_id == self._state.get("key_id"):
            return
        async with Publisher(
            bootstrap_servers,
            source=_SOURCE,
            account=DEMO_ACCOUNT,
            actor="demo-receiver",
            seal_key=SealKey(bytes.fromhex(self._state["seal"])),
            **security,
        ) as publisher:
            # An interrupted reveal is the same reveal when it is repeated.
            outcome = await publisher.send(
                RevealSignature(system=SYSTEM, seal_to=publisher.seal_to),
                channel=CHANNEL,
                command_id=f"demo:reveal:{change.event.id}",
            )
        if isinstance(outcome.body, CommandRejected):  # the system was deleted since
            self._say(f"  Receiver: there is no new signature for it. {outcome.body.message}")
            return
        self._save(secret=outcome.secret, key_id=outcome.body.key_id)
        self._say(f"  Receiver: has the new signature {outcome.body.key_id}")

    async def walk(self, bootstrap_servers: str, security: dict[str, Any]) -> int:
        """Sends the commands, once per data directory. An interrupted walk-through resumes: the ids are fixed, and a
        repeated command gets its outcome again.

        Returns the channel's version after the last command; 0 if the walk-through was done before.
        """
        if self._state.get("done"):
            return 0
        key = SealKey(bytes.fromhex(self._state["seal"])) if "seal" in self._state else SealKey()
        self._save(seal=bytes(key).hex())
        self._say("\nA walk through the service settings:")
        async with Publisher(
            bootstrap_servers, source=_SOURCE, account=DEMO_ACCOUNT, actor="demo", **security
        ) as publisher:
            step = _Steps(publisher, self._say)
            await step(
                "The platform registers a WhatsApp channel of an authenticated account",
                RegisterChannel(channel_type="whatsapp", name="Demo shop", enterprise_authenticated=True),
            )
            issued = await step(
                "A signature is issued for the API Request URL, before Open is confirmed",
                RefreshSignature(system=SYSTEM, api_request_url=self._url, seal_to=key.seal_to),
            )
            if issued.sealed is None:
                raise EmbeddedServerError("The demo's signature came without its secret.")
            self._save(secret=key.open(issued.sealed), key_id=issued.key_id)
            await step(
                "The business system is opened with it",
                OpenBusinessSystem(system=SYSTEM, name="Demo CRM", api_request_url=self._url, remarks="The demo's own"),
            )
            await step(
                "An intent is added",
                AddIntent(system=SYSTEM, code=CODE, name="Order status", default_data={"order": "1001"}),
            )
            await step("SMS is activated", ToggleSms(enabled=True))
            done = await step(
                "OTP delivery scheduling is saved for Indonesia and India",
                SaveOtpScheduling(enabled=True, countries=["ID", "IN"], use_own_numbers=False),
            )
            await publisher.publish(
                InvokeIntent(system=SYSTEM, code=CODE, settings_version=done.version),
                channel=CHANNEL,
                topic=topics.INVOCATION_REQUESTS.name,
                command_id="demo:invoke",
            )
        self._say("  The intent is invoked: a signed call to the business system")
        if not await asyncio.to_thread(self._verified.wait, _RECEIVER_TIMEOUT_S):
            raise EmbeddedServerError("The demo's receiver was not called; see logs/invoker.log in the data directory.")
        return done.version

    def finish(self) -> None:
        """The walk-through is over; the next run does not repeat it."""
        self._save(done=True)


class _Steps:
    """Sends the commands one after the other, each with a fixed id."""

    def __init__(self, publisher: Publisher, say: Callable[[str], None]) -> None:
        self._publisher, self._say = publisher, say

    async def __call__(self, what: str, command: CommandData) -> CommandAccepted:
        outcome: Outcome = await self._publisher.send(
            command, channel=CHANNEL, command_id=f"demo:{type(command).__name__}"
        )
        if isinstance(outcome.body, CommandRejected):
            raise EmbeddedServerError(f"The demo's {type(command).__name__} was rejected: {outcome.body.message}")
        self._say(f"  {what}")
        return outcome.body
