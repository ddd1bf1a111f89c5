"""The demo: sends the help page's commands once, and verifies the signed call in a receiver of its own."""

from __future__ import annotations

import asyncio
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
from contracts.intent import AddIntent
from contracts.invocation import InvokeIntent
from contracts.kafka.publisher import Outcome, Publisher
from contracts.message import CommandData
from contracts.otp_scheduling import SaveOtpScheduling
from contracts.outcome import CommandAccepted, CommandRejected
from contracts.sealing import SealKey
from contracts.signature import RefreshSignature
from contracts.sms import ToggleSms
from services.infrastructure.embedded.process import EmbeddedServerError, free_port

DEMO_ACCOUNT = "acme"
CHANNEL = "demo-whatsapp"
SYSTEM = "crm"
CODE = "ORDER_STATUS"
_RECEIVER_TIMEOUT_S = 30


class Demo:
    """The receiver, in a thread of its own, and the walk-through. A context manager.

    Its state across restarts (port, signature secret, whether the walk-through is done) is one file in the data
    directory, readable by its owner only.
    """

    def __init__(self, data_dir: Path) -> None:
        self._file = data_dir / "demo.json"
        self._state: dict[str, Any] = json.loads(self._file.read_text()) if self._file.exists() else {}
        self._state.setdefault("port", free_port())
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._verified = threading.Event()
        self._say: Callable[[str], None] = lambda _: None
        self._runner: web.AppRunner | None = None

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
        if self._runner is not None:
            asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

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
        return web.json_response({"status": "shipped", "order": event["data"].get("order")})

    async def walk(self, bootstrap_servers: str, security: dict[str, Any], say: Callable[[str], None]) -> int:
        """Sends the commands, once per data directory. An interrupted walk-through resumes: the ids are fixed, and a
        repeated command gets its outcome again.

        Returns the channel's version after the last command; 0 if the walk-through was done before.
        """
        self._say = say
        if self._state.get("done"):
            return 0
        key = SealKey(bytes.fromhex(self._state["seal"])) if "seal" in self._state else SealKey()
        self._save(seal=bytes(key).hex())
        say("\nA walk through the service settings:")
        async with Publisher(
            bootstrap_servers, source="switchboard-demo", account=DEMO_ACCOUNT, actor="demo", **security
        ) as publisher:
            step = _Steps(publisher, say)
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
            self._save(secret=key.open(issued.sealed))
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
        say("  The intent is invoked: a signed call to the business system")
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
