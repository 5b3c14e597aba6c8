"""Builds and pulls images through an engine's API; both engines' old builders suffice (no `RUN --mount`).

A Containerfile may use what the machine that builds is told about package mirrors: the context then has a folder
`inputs/` whose file `env` sets the variables of apt, pip, npm and the TLS libraries. Nothing of it stays in an image:
one that had inputs in its last stage is flattened (exported and imported again), so neither a layer nor the history
has them. Earlier stages stay in the engine's build cache, as with any build.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import shlex
import tarfile
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from runner.errors import ConfigError, EngineUnavailable, ImageNotFound, SandboxError
from runner.sandbox import owner
from runner.sandbox.api import Api, Product

if TYPE_CHECKING:
    from requests import Response

CONNECT_SECONDS = 10.0
STEP_SECONDS = 1800.0
"""Longest silence of a build; a package's installation may say nothing for minutes."""
ERROR_LINES = 15
INPUTS = "/inputs"
"""Where Containerfiles put the inputs, and from where they remove them."""

# The docker API names them in capitals, podman's compatible one wants ulimit(1)'s way.
BUILD_LIMITS = ("nofile=4096:4096", "nproc=4096:4096")

Files = Mapping[str, Path]
"""A build context: path inside -> file."""


@dataclass(frozen=True, kw_only=True)
class BuildInputs:
    """Where packages come from, when not from where the distribution and the tools say."""

    apt_sources: Path | None = None
    """A sources.list(5) file; deb822 style when its name ends with .sources."""
    ca_bundle: Path | None = None
    """Certificate authorities, PEM: all that the build should trust."""
    pip_index: str | None = None
    npm_registry: str | None = None

    VARIABLES = ("CLAW_BUILD_APT_SOURCES", "CLAW_BUILD_CA_BUNDLE", "CLAW_BUILD_PIP_INDEX", "CLAW_BUILD_NPM_REGISTRY")
    """What `from_variables` reads, in the order of the fields."""

    @classmethod
    def from_variables(cls, variables: Mapping[str, str]) -> BuildInputs:
        """The inputs that CLAW_BUILD_* name; an empty value is none."""
        apt_sources, ca_bundle, pip_index, npm_registry = (variables.get(name) or None for name in cls.VARIABLES)
        return cls(
            apt_sources=Path(apt_sources) if apt_sources else None,
            ca_bundle=Path(ca_bundle) if ca_bundle else None,
            pip_index=pip_index,
            npm_registry=npm_registry,
        )

    def files(self) -> dict[str, bytes]:
        """The folder `inputs/` of a build context: path -> content; empty without inputs. Raises ConfigError."""
        variables: dict[str, str] = {}
        apt_lines: list[str] = []
        files: dict[str, bytes] = {}
        if self.apt_sources:
            name = f"mirror{self.apt_sources.suffix or '.list'}"
            files[f"apt/{name}"] = _read(self.apt_sources, "apt sources")
            apt_lines += ['Dir::Etc::SourceList "/dev/null";', f'Dir::Etc::SourceParts "{INPUTS}/apt";']
        if self.ca_bundle:
            files["ca.crt"] = _read(self.ca_bundle, "CA bundle")
            apt_lines.append(f'Acquire::https::CaInfo "{INPUTS}/ca.crt";')
            variables |= dict.fromkeys(CA_VARIABLES, f"{INPUTS}/ca.crt")
        if self.pip_index:
            variables["PIP_INDEX_URL"] = self.pip_index
        if self.npm_registry:
            variables["npm_config_registry"] = self.npm_registry
        if apt_lines:
            files["apt.conf"] = "\n".join([*apt_lines, ""]).encode()
            variables["APT_CONFIG"] = f"{INPUTS}/apt.conf"
        if variables:
            files["env"] = "".join(
                f"export {name}={shlex.quote(value)}\n" for name, value in variables.items()
            ).encode()
        return {f"inputs/{name}": content for name, content in files.items()}


CA_VARIABLES = (
    *("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "NODE_EXTRA_CA_CERTS"),
)


def folder_files(folder: Path, *, below: str = "", pattern: str = "**/*") -> Files:
    """The files of a folder as part of a context, without what Python leaves behind."""
    found = (path for path in sorted(folder.glob(pattern)) if path.is_file() and "__pycache__" not in path.parts)
    return {f"{below}{path.relative_to(folder).as_posix()}": path for path in found}


def fingerprint(files: Files, *further: str) -> str:
    """12 hex digits that change with any path, content or executable bit, or with `further`."""
    hashed = hashlib.sha256(repr(further).encode())
    for name, path in sorted(files.items()):
        hashed.update(repr((name, _mode(path), hashlib.sha256(path.read_bytes()).hexdigest())).encode())
    return hashed.hexdigest()[:12]


def build(
    api: Api,
    tag: str,
    files: Files,
    *,
    arguments: Mapping[str, str],
    inputs: BuildInputs,
    fresh: bool = False,
) -> None:
    """Build the context's Containerfile and tag the image. `fresh` uses nothing of earlier builds.

    Raises SandboxError with the last lines of the build's output when it fails, ConfigError for unreadable inputs.
    """
    given = inputs.files()
    parameters = {
        "dockerfile": "Containerfile",
        "t": tag,
        "buildargs": json.dumps(dict(arguments)),
        "labels": json.dumps({owner.LABEL: "1"}),
        "rm": "1",
        "forcerm": "1",
        "nocache": str(int(fresh)),
        # Root's podman may ask for more than this machine lets it have.
        **({"ulimits": json.dumps(BUILD_LIMITS)} if api.product == "podman" else {}),
    }
    try:
        _follow(api, "/build", parameters, _context(files, given), seconds=STEP_SECONDS)
    except _Failed as error:
        raise SandboxError(f"image {tag} could not be built on {api.product}: {error}") from error
    if given and _may_keep_inputs(files["Containerfile"].read_text()):
        _flatten(api, tag)


def pull(api: Api, reference: str, *, seconds: float) -> None:
    """Fetch an image from its registry, which must never be silent for longer than `seconds`. Raises ImageNotFound."""
    from docker import auth  # noqa: PLC0415  imported when used: 0.15 s
    from docker.utils import parse_repository_tag  # noqa: PLC0415

    name, tag = parse_repository_tag(reference)
    registry, _ = auth.resolve_repository_name(name)
    login = auth.get_config_header(api.client, registry)
    try:
        # Without a tag docker would fetch every one of them.
        _follow(
            api,
            "/images/create",
            {"fromImage": name, "tag": tag or "latest"},
            b"",
            headers={"X-Registry-Auth": login.decode()} if login else {},
            seconds=seconds,
        )
    except (_Failed, _Silent) as error:
        raise ImageNotFound(f"{reference!r} cannot be pulled: {error}") from error


def load(api: Api, tag: str, archive: IO[bytes] | Iterable[bytes], *, changes: Iterable[str]) -> None:
    """Make an image of one layer from a tar archive of a root file system; `changes` are Containerfile lines."""
    parameters = {"fromSrc": "-", "repo": tag, "reference": tag, "changes": list(changes)}
    # Under docker's path podman 4 leaves the whole archive behind, as a file in /var/tmp.
    path = "/images/create" if api.product == "docker" else "/libpod/images/import"
    try:
        _follow(api, path, parameters, archive, seconds=STEP_SECONDS)
    except _Failed as error:
        raise SandboxError(f"image {tag} could not be imported by {api.product}: {error}") from error


def _may_keep_inputs(containerfile: str) -> bool:
    """Whether the last stage, which the image is made of, sees the inputs or begins where another ended."""
    _, *earlier, last = re.split(r"^FROM\s+", containerfile, flags=re.MULTILINE | re.IGNORECASE)
    stages = {words[2] for stage in earlier if len(words := stage.split("\n")[0].split()) == 3}
    return INPUTS in last or last.split()[0] in stages


def _flatten(api: Api, tag: str) -> None:
    """Replace an image by one of a single layer. Raises SandboxError when it still has the inputs."""
    image = api.get(f"/images/{tag}/json")
    labels = {owner.LABEL: "1", owner.OWNER: owner.mine()}
    container = api.post("/containers/create", body={"Image": tag, "Cmd": ["true"], "Labels": labels})["Id"]
    try:
        if api.exists(f"/containers/{container}/archive?path={INPUTS}"):
            raise SandboxError(f"image {tag} still has {INPUTS}; end its Containerfile with: RUN rm -rf {INPUTS}")
        with _stream(api, "GET", f"/containers/{container}/export", seconds=STEP_SECONDS) as exported:
            load(api, tag, exported.iter_content(1 << 20), changes=_changes(image["Config"], api.product))
    finally:
        api.delete(f"/containers/{container}", force="true")
        # By its id, so that its name goes only when nothing has taken it over; with it go the layers nobody else has.
        api.delete(f"/images/{image['Id']}", force="true")


def _changes(config: Mapping[str, Any], product: Product) -> Iterator[str]:
    """An image's configuration as lines of a Containerfile."""

    def quoted(text: str) -> str:
        # docker reads backslashes as a Containerfile has them; podman takes off the outer quotes and looks no further.
        return json.dumps(text, ensure_ascii=False) if product == "docker" else f'"{text}"'

    for variable in config.get("Env") or ():
        name, _, value = variable.partition("=")
        yield f"ENV {name}={quoted(value)}"
    for name, value in (config.get("Labels") or {}).items():
        yield f"LABEL {name}={quoted(value)}"
    for word in ("Entrypoint", "Cmd"):
        if config.get(word):
            yield f"{word.upper()} {json.dumps(config[word])}"
    for word, key in (("USER", "User"), ("WORKDIR", "WorkingDir")):
        if config.get(key):
            yield f"{word} {config[key]}"


def _context(files: Files, given: Mapping[str, bytes]) -> bytes:
    """A plain archive, the same whoever makes it wherever: the builders' caches compare owners and modes, not times."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, path in files.items():
            _add(archive, name, path.read_bytes(), mode=_mode(path), modified=path.stat().st_mtime)
        for name, content in given.items():
            _add(archive, name, content, mode=0o644)
    return buffer.getvalue()


def _add(archive: tarfile.TarFile, name: str, content: bytes, *, mode: int, modified: float = 0) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = len(content), mode, modified
    archive.addfile(entry, io.BytesIO(content))


def _mode(path: Path) -> int:
    return 0o755 if path.stat().st_mode & 0o100 else 0o644


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {what} for image builds cannot be read: {error.strerror}") from error


class _Failed(Exception):
    """The engine reports a failure; the message has the last lines of what it said."""


class _Silent(Exception):
    """No word from the engine for too long."""


def _follow(
    api: Api,
    path: str,
    parameters: Mapping[str, Any],
    data: Any,
    *,
    seconds: float,
    headers: Mapping[str, str] | None = None,
) -> None:
    """Read the progress that answers a request, one JSON object a line, to its end. Raises _Failed, _Silent."""
    said: deque[str] = deque(maxlen=ERROR_LINES)
    with _stream(api, "POST", path, params=parameters, data=data, headers=headers, seconds=seconds) as answer:
        for line in answer.iter_lines():
            report = json.loads(line)
            if error := report.get("error") or (answer.status_code >= 400 and report.get("message")):
                raise _Failed("\n  ".join([error.strip(), *said]))
            said.extend(line for line in _plain(report.get("stream", "")).splitlines() if line.strip())
        if answer.status_code >= 400:
            raise _Failed(f"HTTP {answer.status_code}")


def _plain(text: str) -> str:
    """Lines of bearable length, without the colours that docker gives standard error."""
    return "\n".join(line[:300] for line in re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines())


@contextmanager
def _stream(api: Api, method: str, path: str, *, seconds: float, **request: Any) -> Iterator[Response]:
    """A request whose answer is read as it comes. Raises _Silent, or EngineUnavailable."""
    import requests  # noqa: PLC0415  imported when used, as all of docker-py

    waits = (CONNECT_SECONDS, seconds)
    try:
        with api.client.request(method, api.address(path), stream=True, timeout=waits, **request) as answer:
            yield answer
    except requests.Timeout as error:
        raise _Silent(f"no answer for {seconds:g} s") from error
    except requests.ConnectionError as error:
        if "Read timed out" in str(error):
            raise _Silent(f"no answer for {seconds:g} s") from error
        raise EngineUnavailable(f"{api.product} at {api.url} stopped answering ({error})") from error
