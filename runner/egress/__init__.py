"""Out of the container: what the proxy port of a job leads to, and what the runner fetches for its agent."""

from __future__ import annotations

from runner.egress.fetch import Fetcher
from runner.egress.gateway import Gateway
from runner.egress.meter import Meter
from runner.egress.trust import ca_variables, host_ca_bundle, install_ca

__all__ = ["Fetcher", "Gateway", "Meter", "ca_variables", "host_ca_bundle", "install_ca"]
