"""The certificate authorities of the runner's machine: for its own fetches, and, by `egress.ca: host`, for commands."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path

from runner.errors import ConfigError
from runner.sandbox.base import HOME, Sandbox

BUNDLE = HOME / ".claw-ca.pem"
"""Where the authorities are, inside."""
# Of Debian, Fedora and Alpine; a Python that was built elsewhere does not know where its machine has them.
_USUAL = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")


def tls_context() -> ssl.SSLContext:
    """What this machine trusts; SSL_CERT_FILE and SSL_CERT_DIR are respected."""
    context = ssl.create_default_context()
    if not context.cert_store_stats()["x509_ca"] and (usual := _usual()):
        context.load_verify_locations(usual)
    return context


def ca_variables() -> dict[str, str]:
    """What makes programs read BUNDLE; for SandboxConfig.variables."""
    names = (
        "SSL_CERT_FILE",
        "CURL_CA_BUNDLE",
        "GIT_SSL_CAINFO",
        "NODE_EXTRA_CA_CERTS",
        "PIP_CERT",
        "REQUESTS_CA_BUNDLE",
    )
    return dict.fromkeys(names, str(BUNDLE))


def host_ca_bundle(variables: Mapping[str, str]) -> bytes:
    """The authorities that this machine trusts, in PEM; `variables` are those of the runner.

    Raises ConfigError when it has none.
    """
    named = (variables.get(name) for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"))
    for path in (*named, ssl.get_default_verify_paths().cafile, _usual()):
        if path:
            return _read(Path(path))
    raise ConfigError("egress.ca: host: this machine has no file of certificate authorities; name one in SSL_CERT_FILE")


def install_ca(sandbox: Sandbox, bundle: bytes) -> None:
    """Put the authorities where `ca_variables` says they are. Once, before the first command that needs them."""
    sandbox.write_file(str(BUNDLE), bundle)


def _usual() -> str | None:
    return next((path for path in _USUAL if Path(path).is_file()), None)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"egress.ca: host: cannot read {path}: {error.strerror}") from error
