"""An invoker with injected faults: ``python -m tests.faults.invoker.process OPTIONS``, a `ProcessOptions` as JSON.

It runs the product's own service with short limits, and ends when its standard input closes.
"""

from __future__ import annotations

import sys
from typing import Literal

from services.infrastructure.config import Settings
from services.invoker import service
from services.invoker.limits import Limits
from tests.faults.faulty_service import SignalOptions, say_ready, serve, signal_at_step

Step = Literal["ingested", "leased", "claimed", "called", "recorded"]
STEPS: tuple[Step, ...] = ("ingested", "leased", "claimed", "called", "recorded")

SHORT_LIMITS = Limits(
    retry_delays=(0.2, 0.3, 0.4),
    connect_timeout=0.5,
    call_timeout=1.0,
    lease_duration=2.5,
    open_duration=0.3,
    max_open_duration=0.6,
    disable_again_after=0.5,
    settings_version_wait=2.0,
    unverified_interval=0.05,
    calls_per_host=100_000,
)


class ProcessOptions(SignalOptions):
    step: Step | None = None


def main() -> None:
    options = ProcessOptions.model_validate_json(sys.argv[1])
    serve(
        service.run(Settings.from_environment(), ready=say_ready, on_step=signal_at_step(options), limits=SHORT_LIMITS)
    )


if __name__ == "__main__":
    main()
