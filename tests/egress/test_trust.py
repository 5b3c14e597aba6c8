"""The certificate authorities of the runner's machine, for commands."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.egress import ca_variables, host_ca_bundle, install_ca
from runner.errors import ConfigError
from runner.sandbox.hello import Settings
from tests.local_toolbox import local_sandbox


def test_the_file_that_the_variables_name_is_taken(tmp_path: Path) -> None:
    (tmp_path / "a.pem").write_bytes(b"A")
    (tmp_path / "b.pem").write_bytes(b"B")
    both = {"SSL_CERT_FILE": str(tmp_path / "a.pem"), "REQUESTS_CA_BUNDLE": str(tmp_path / "b.pem")}
    assert host_ca_bundle(both) == b"A"
    assert host_ca_bundle({"REQUESTS_CA_BUNDLE": str(tmp_path / "b.pem")}) == b"B"


def test_a_file_that_is_not_there_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"egress.ca: host: cannot read .*missing.pem: No such file"):
        host_ca_bundle({"SSL_CERT_FILE": str(tmp_path / "missing.pem")})


def test_commands_find_what_was_installed_where_the_variables_say(tmp_path: Path) -> None:
    settings = Settings(variables=ca_variables())
    with local_sandbox(tmp_path, settings) as sandbox:
        install_ca(sandbox, b"the authorities")
        for name in ("SSL_CERT_FILE", "PIP_CERT", "NODE_EXTRA_CA_CERTS", "GIT_SSL_CAINFO", "CURL_CA_BUNDLE"):
            assert sandbox.exec(f'cat "${name}"').output == b"the authorities"
