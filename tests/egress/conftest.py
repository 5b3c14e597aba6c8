"""A gateway behind a real toolbox, and names that lead to this machine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from runner.egress import Gateway, Meter
from runner.policy.egress import Phase
from runner.policy.schema import Egress
from tests.egress.servers import proxy_port
from tests.egress.ways import Names, Open, Way, Written


@pytest.fixture
def way(tmp_path: Path) -> Iterator[Open]:
    """`way("web.test:8080", …)` opens one; `web.test` and `other.test` are this machine, if its address is listed."""
    with ExitStack() as opened:

        def opener(
            *entries: str,
            phase: Phase = "agent",
            names: dict[str, Sequence[str]] | None = None,
            meter: Meter | None = None,
            resolver: Any = None,
            **settings: Any,
        ) -> Way:
            resolver = resolver or Names(names or {"web.test": ["127.0.0.1"], "other.test": ["127.0.0.1"]})
            lists = {"agent": entries} | settings
            written = Written()
            gateway = Gateway(Egress.model_validate(lists), written, phase, meter=meter, resolver=resolver)
            opened.callback(gateway.close)
            port = opened.enter_context(proxy_port(tmp_path, gateway))
            return Way(gateway=gateway, port=port, written=written, looked_up=getattr(resolver, "asked", []))

        yield opener
