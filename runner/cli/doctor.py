"""`claw-runner doctor`: can a job run here, and if not, what to do; with `--attack`: does it hold what it promises."""

from __future__ import annotations

import dataclasses
import json
import os
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from runner.attack import attack
from runner.attack.card import lines
from runner.cli.inputs import policy_file
from runner.errors import EXIT_CODES, ConfigError
from runner.policy.loading import load_policy
from runner.policy.schema import show_size
from runner.sandbox.base import Control
from runner.sandbox.doctor import Diagnosis, EngineFacts, Machine, Problem, Proof, diagnose, prove
from runner.sandbox.engines import EngineChoice, open_engine

CANNOT_RUN = 2
LEAKS = EXIT_CODES["sandbox_error"]
"""Something got through, or could not be tried: the sandbox is not what it promises to be."""
DEFAULT_POLICY = "readonly"
SIZES = frozenset({"memory", "swap", "disk", "tmp", "shared_memory", "file_size"})
"""Controls whose value is in bytes."""


def doctor(
    engine: Annotated[
        EngineChoice | None, typer.Option(help="also open a real sandbox on this engine, and list its controls")
    ] = None,
    attacked: Annotated[
        bool, typer.Option("--attack", help="let a red team loose in a sandbox, and count what held")
    ] = False,
    policy: Annotated[
        str | None, typer.Option(metavar="POLICY", help=f"of --attack: a policy's file or name  [{DEFAULT_POLICY}]")
    ] = None,
    image: Annotated[str | None, typer.Option(help="of --attack: what the sandbox is made of  [base]")] = None,
    engine_url: Annotated[str | None, typer.Option(metavar="URL", help="of --attack: where the engine is")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print machine-readable output only")] = False,
) -> int:
    """Report engines, limits and the next step for each problem. Exit code 0 when a job can run here, else 2.

    With --attack: everything that hostile code could try is tried in a container under exactly that policy, and a score
    card names every hole. Nothing of this machine is harmed. Exit code 0 when all of it was stopped, else 21; 2 when by
    that policy no container opens here.
    """
    if attacked:
        return _attack(policy or DEFAULT_POLICY, engine or "auto", engine_url, image or "base", as_json=as_json)
    if alone := [f"--{name}" for name, value in {"policy": policy, "image": image}.items() if value]:
        raise ConfigError(f"{alone[0]} is an option of --attack; write: claw-runner doctor --attack {alone[0]} …")
    diagnosis = diagnose()
    proof = prove(engine) if engine else None
    can_run = proof.error == "" if proof else diagnosis.can_run
    if as_json:
        print(json.dumps(_document(diagnosis, proof, can_run), indent=2))
    else:
        _show(Console(highlight=False), diagnosis, proof, can_run)
    return 0 if can_run else CANNOT_RUN


def _attack(policy: str, engine_name: EngineChoice, url: str | None, image: str, *, as_json: bool) -> int:
    rules = load_policy(policy_file(policy))
    with open_engine(engine_name, url=url) as engine:
        card = attack(engine, rules, image=image, host_variables=os.environ)
    print(json.dumps(card.document(), indent=2) if as_json else "\n".join(lines(card)))
    return 0 if card.held else LEAKS


def _document(diagnosis: Diagnosis, proof: Proof | None, can_run: bool) -> dict[str, object]:
    return {
        **dataclasses.asdict(diagnosis),
        "proof": dataclasses.asdict(proof) if proof else None,
        "can_run": can_run,
    }


def _show(console: Console, diagnosis: Diagnosis, proof: Proof | None, can_run: bool) -> None:
    _show_machine(console, diagnosis.machine)
    for facts in diagnosis.engines:
        _show_engine(console, facts)
    if proof:
        _show_proof(console, proof)
    problems = [*diagnosis.problems, *(problem for facts in diagnosis.engines for problem in facts.problems)]
    if problems:
        console.print("\n[bold]Problems[/]")
    for problem in problems:
        _show_problem(console, problem, blocking=not can_run)
    verdict = "[bold green]A job can run here.[/]" if can_run else "[bold red]No job can run here.[/]"
    console.print(f"\n{verdict}")


def _show_machine(console: Console, machine: Machine) -> None:
    yes = {True: "yes", False: "no"}
    console.print("[bold]Machine[/]")
    _facts(
        console,
        system=f"{machine.system}, Linux {machine.kernel}",
        size=f"{machine.cpus} CPUs, {machine.memory_bytes / 2**30:.1f} GiB memory",
        kernel=f"cgroup version {machine.cgroup_version}, seccomp {yes[machine.seccomp]}, "
        f"Landlock ABI {machine.landlock_abi or 'none'}, {machine.user_namespaces} user namespaces",
        limits=f"{machine.open_files_limit} open files, may raise limits: {yes[machine.may_raise_limits]}",
        user="root" if machine.root else "not root",
        key=f"ANTHROPIC_API_KEY set: {yes[machine.key_present]}",
    )


def _show_engine(console: Console, facts: EngineFacts) -> None:
    if not facts.reachable:
        state = "installed, does not answer" if facts.installed else "not installed"
        console.print(f"\n[bold]{facts.name}[/]  {state}")
        return
    disk = "unknown" if facts.disk_free_bytes is None else f"{facts.disk_free_bytes / 2**30:.1f} GiB free"
    console.print(f"\n[bold]{facts.name}[/]  {escape(facts.version)}")
    _facts(
        console,
        address="a service of our own, started when needed" if facts.started_by_us else facts.url,
        storage=f"{facts.storage_driver}, {disk}",
        isolation=f"{facts.oci_runtime}, cgroup version {facts.cgroup_version}, "
        f"user namespace: {facts.user_namespace}, {'rootless' if facts.rootless else 'rootful'}",
        unenforced=", ".join(facts.unenforced) or "nothing",
        toolbox="there" if facts.toolbox_present else "not there yet",
        images=", ".join(facts.images) or "none of ours",
    )


def _show_proof(console: Console, proof: Proof) -> None:
    console.print(
        f"\n[bold]Sandbox on {proof.engine}[/]  {escape(proof.error) or f'answered in {proof.seconds:.2f} s'}"
    )
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for control in proof.controls:
        table.add_row(f"  {control.name}", _status(control), escape(_value(control)))
    console.print(table)


def _status(control: Control) -> str:
    colour = {"hard": "green", "soft": "yellow", "missing": "red"}[control.status]
    return f"[{colour}]{control.status}[/]"


def _value(control: Control) -> str:
    is_size = control.name in SIZES and control.effective.isdecimal()
    return show_size(int(control.effective)) if is_size else control.effective


def _show_problem(console: Console, problem: Problem, *, blocking: bool) -> None:
    colour = "red" if blocking and problem.severity == "error" else "yellow"
    console.print(f"[{colour}]•[/] {escape(problem.what)}\n  → {escape(problem.next_step)}")


def _facts(console: Console, **facts: str) -> None:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    for name, value in facts.items():
        table.add_row(f"  {name}", escape(value))
    console.print(table)
