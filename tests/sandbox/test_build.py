"""Builds on real engines: what goes in, what stays out, what a failure says."""

from __future__ import annotations

import json
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.errors import ConfigError, ImageNotFound, SandboxError
from runner.sandbox import owner
from runner.sandbox.build import BuildInputs, build, fingerprint, folder_files, pull
from runner.sandbox.container import ContainerEngine
from runner.sandbox.image import ImageRef
from tests.sandbox.plain import run

CANARY = "canary-5f0e9d1c"

USES_INPUTS = """\
ARG BASE
FROM ${BASE}
COPY Containerfile input[s] /inputs/
ENV KEPT="two words" QUOTE='"'
WORKDIR /somewhere
RUN . /inputs/env \\
 && { apt-get update --print-uris; apt-config dump Acquire::https::CaInfo; \\
      echo "$PIP_INDEX_URL $npm_config_registry"; \\
      cat "$PIP_CERT" "$SSL_CERT_FILE" "$NODE_EXTRA_CA_CERTS"; } | sed s/canary/seen/g >/seen
USER nobody
CMD ["cat", "/seen"]
"""


@pytest.fixture
def tag(engine: ContainerEngine) -> Iterator[str]:
    """A name for an image, which is removed at the end."""
    name = f"claw-test/build:{uuid.uuid4().hex[:8]}"
    yield name
    if engine.api.exists(f"/images/{name}/json"):
        engine.api.delete(f"/images/{name}", force="true")


@pytest.fixture
def inputs(tmp_path: Path) -> BuildInputs:
    (tmp_path / "mirror.sources").write_text(
        f"Types: deb\nURIs: http://{CANARY}.invalid/debian\nSuites: stable\nComponents: main\nSigned-By: /none\n"
    )
    (tmp_path / "ca.pem").write_text(f"{CANARY}-ca\n")
    return BuildInputs.from_variables(
        {
            "CLAW_BUILD_APT_SOURCES": str(tmp_path / "mirror.sources"),
            "CLAW_BUILD_CA_BUNDLE": str(tmp_path / "ca.pem"),
            "CLAW_BUILD_PIP_INDEX": f"https://user:pass@{CANARY}-pip.invalid/simple",
            "CLAW_BUILD_NPM_REGISTRY": f"https://{CANARY}-npm.invalid/",
        }
    )


def _files(folder: Path, text: str) -> dict[str, Path]:
    path = folder / "Containerfile"
    path.write_text(text)
    return {"Containerfile": path}


@pytest.mark.engine
def test_mirrors_and_authorities_are_used_by_a_build_and_are_nowhere_in_the_image(
    engine: ContainerEngine, base_image: ImageRef, tag: str, inputs: BuildInputs, tmp_path: Path
) -> None:
    files = _files(tmp_path, USES_INPUTS.replace("USER nobody", "RUN rm -rf /inputs\nUSER nobody"))
    build(engine.api, tag, files, arguments={"BASE": base_image.reference}, inputs=inputs)
    seen = run(engine, tag, "cat", "/seen").stdout
    assert "'http://seen-5f0e9d1c.invalid/debian/dists/stable/InRelease'" in seen
    assert "debian.org" not in seen
    assert 'Acquire::https::CaInfo "/inputs/ca.crt";' in seen
    assert "https://user:pass@seen-5f0e9d1c-pip.invalid/simple https://seen-5f0e9d1c-npm.invalid/" in seen
    assert seen.count("seen-5f0e9d1c-ca") == 3
    kept = b"".join(engine.api.client.get_image(tag)) + json.dumps(engine.api.get(f"/images/{tag}/history")).encode()
    assert CANARY.encode() not in kept


@pytest.mark.engine
def test_an_image_built_with_inputs_keeps_its_configuration(
    engine: ContainerEngine, base_image: ImageRef, tag: str, inputs: BuildInputs, tmp_path: Path
) -> None:
    files = _files(tmp_path, USES_INPUTS.replace("USER nobody", "RUN rm -rf /inputs\nUSER nobody"))
    build(engine.api, tag, files, arguments={"BASE": base_image.reference}, inputs=inputs)
    config = engine.api.get(f"/images/{tag}/json")["Config"]
    assert {"KEPT=two words", 'QUOTE="'} < set(config["Env"])
    assert (config["User"], config["WorkingDir"], config["Cmd"]) == ("nobody", "/somewhere", ["cat", "/seen"])
    assert config["Labels"][owner.LABEL] == "1"


@pytest.mark.engine
@pytest.mark.parametrize("last", ["FROM ${BASE}\nCOPY --from=first /seen /\n", "FROM first\nRUN rm -rf /inputs\n"])
def test_no_stage_hands_its_inputs_on(
    engine: ContainerEngine, base_image: ImageRef, tag: str, inputs: BuildInputs, tmp_path: Path, last: str
) -> None:
    text = USES_INPUTS.replace("FROM ${BASE}", "FROM ${BASE} AS first") + "USER root\n" + last
    build(engine.api, tag, _files(tmp_path, text), arguments={"BASE": base_image.reference}, inputs=inputs)
    assert CANARY.encode() not in b"".join(engine.api.client.get_image(tag))
    assert run(engine, tag, "cat", "/seen").exit_code == 0


@pytest.mark.engine
def test_an_image_that_keeps_its_inputs_is_refused(
    engine: ContainerEngine, base_image: ImageRef, tag: str, inputs: BuildInputs, tmp_path: Path
) -> None:
    files = _files(tmp_path, USES_INPUTS)
    with pytest.raises(SandboxError, match="still has /inputs; end its Containerfile with: RUN rm -rf /inputs"):
        build(engine.api, tag, files, arguments={"BASE": base_image.reference}, inputs=inputs)
    assert not engine.api.exists(f"/images/{tag}/json")


@pytest.mark.engine
def test_a_failed_build_ends_with_its_last_lines(
    engine: ContainerEngine, base_image: ImageRef, tag: str, tmp_path: Path
) -> None:
    text = f"FROM {base_image.reference}\nRUN seq -f 'line %g' 1000; echo no space >&2; exit 3\n"
    with pytest.raises(SandboxError, match=f"image {tag} could not be built on {engine.name}: ") as caught:
        build(engine.api, tag, _files(tmp_path, text), arguments={}, inputs=BuildInputs())
    assert "no space" in str(caught.value)
    assert "line 1000" in str(caught.value)
    assert "line 900" not in str(caught.value)


@pytest.mark.engine
def test_a_base_that_nobody_has_fails_the_build(engine: ContainerEngine, tag: str, tmp_path: Path) -> None:
    files = _files(tmp_path, "FROM localhost:1/claw-test/none:1\n")
    with pytest.raises(SandboxError, match="could not be built"):
        build(engine.api, tag, files, arguments={}, inputs=BuildInputs())


@pytest.mark.engine
def test_a_registry_that_never_answers_is_given_up(engine: ContainerEngine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        name = f"127.0.0.1:{silent.getsockname()[1]}/claw-test/none:1"
        with pytest.raises(ImageNotFound, match=f"'{name}' cannot be pulled"):
            pull(engine.api, name, seconds=1)


@pytest.mark.parametrize("field", ["apt_sources", "ca_bundle"])
def test_inputs_that_cannot_be_read_are_a_mistake_of_the_user(field: str) -> None:
    with pytest.raises(ConfigError, match=r"/nowhere/x.list: .* for image builds cannot be read: No such file"):
        BuildInputs(**{field: Path("/nowhere/x.list")}).files()


def test_without_inputs_a_context_has_none() -> None:
    assert (
        BuildInputs.from_variables({"CLAW_BUILD_PIP_INDEX": "", "PIP_INDEX_URL": "https://else.invalid"}).files() == {}
    )


def test_a_value_of_the_user_is_not_run_by_the_build() -> None:
    env = BuildInputs(pip_index="https://a/'; touch /tmp/x; '$(id)").files()["inputs/env"].decode()
    assert env == """export PIP_INDEX_URL='https://a/'"'"'; touch /tmp/x; '"'"'$(id)'\n"""


def test_a_fingerprint_tells_names_contents_and_programs_apart(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("1")
    seen = {fingerprint(folder_files(tmp_path)), fingerprint(folder_files(tmp_path), "base")}
    path.chmod(0o755)
    seen.add(fingerprint(folder_files(tmp_path)))
    path.write_text("2")
    seen.add(fingerprint(folder_files(tmp_path)))
    path.rename(tmp_path / "b")
    seen.add(fingerprint(folder_files(tmp_path)))
    seen.add(fingerprint(folder_files(tmp_path, below="c/")))
    assert len(seen) == 6
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__/b.pyc").write_bytes(b"")
    assert fingerprint(folder_files(tmp_path, below="c/")) in seen
