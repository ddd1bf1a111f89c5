"""Any record on the topic leads to exactly one outcome, dead letter or forward, and the state can be restored."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from contracts import topics
from contracts.business_system import OpenBusinessSystem
from contracts.channel import RegisterChannel
from tests.unit.commands import commands
from tests.unit.decider.partition import Partition, envelope

REGISTER = RegisterChannel(channel_type="whatsapp", name="Shop", enterprise_authenticated=True)
OPEN = OpenBusinessSystem(system="crm", name="CRM", api_request_url="https://crm.example/hook")

_odd = st.sampled_from(["", "~a", "a/b", "\x00", "\ud800", "x" * 1025, "𝄞" * 300, 2**70, 10**4000, float("nan"), -0.0])
_anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | _odd,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


@st.composite
def _damaged(draw: st.DrawFn) -> bytes:
    """A command with up to three of its attributes or fields replaced, added or left out."""
    command = envelope(draw(commands), draw(st.sampled_from(["c1", "c2", "c3"])))
    for _ in range(draw(st.integers(0, 3))):
        data = command.get("data")
        place: dict[str, Any] = data if isinstance(data, dict) and draw(st.booleans()) else command
        name = draw(st.sampled_from([*sorted(place), "expectedversion", "dryrun", "time", "actor", "colour"]))
        if draw(st.booleans()):
            place[name] = draw(_anything)
        else:
            place.pop(name, None)
    return json.dumps(command).encode()


@given(st.lists(_damaged() | st.binary(max_size=20) | st.none(), max_size=4))
def test_anything_leads_to_one_thing(values: list[bytes | None]) -> None:
    partition = Partition()
    partition.run(envelope(REGISTER, "r1"), envelope(OPEN, "r2"))
    outcomes = partition.run(*values)

    assert len(outcomes) + len(partition.read(topics.DEAD_LETTERS.name)) + len(partition.forwarded) == len(values)
    assert all(outcome["data"].get("rejection") != "DecisionFailed" for outcome in outcomes)
    restored = partition.restored()
    assert restored.records == partition.state.records
    assert restored.channel("ch-1").system("crm") == partition.state.channel("ch-1").system("crm")
