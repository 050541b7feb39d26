"""`up`, `down` and `status` of all services, one thread per service."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from tools.backends import tls
from tools.backends.errors import ChoiceError, NotReadyError, ServiceError
from tools.backends.kafka import Kafka
from tools.backends.mysql import MySql
from tools.backends.ports import PortPicker
from tools.backends.processes import ProcessMark, spawn, stop, tail
from tools.backends.progress import say
from tools.backends.redis import Redis
from tools.backends.s3 import S3
from tools.backends.service import Facts, Service
from tools.backends.state import Record, StateDirectory

SERVICES: Final[dict[str, type[Service]]] = {
    service.name: service for service in (Redis, MySql, Kafka, S3)
}
POLL_SECONDS: Final = 0.1


def up(state: StateDirectory, names: Iterable[str]) -> list[str]:
    """Start what does not run and wait until it answers. Return the names of the started services.

    Raise `ServiceError` with a line per failed service; the others keep running.
    """
    ports = PortPicker()
    started: list[str] = []

    def one(name: str) -> None:
        service = SERVICES[name](state.create_home(name), files)
        before = state.running(name)
        if before is not None:
            if service.choice is not None:
                service.choice.check(name, before.facts)
            tls.check(name, before.facts, files)
            if files is None or before.facts["certificate"] == files.serial:
                facts = wait_until_ready(service, before.mark, before.facts)
                say(name, f"already runs: {described(facts)}")
                return
            say(name, "restarting: its certificate was renewed")
            stop(before.mark, service.stop_seconds)
        started.append(name)
        say(name, f"ready: {described(start(state, service, ports))}")

    with state.changing():
        files = tls.prepare(state.path / "tls") if tls.wanted() else None
        try:
            for_each(names, one)
        finally:
            publish(state)
    return started


def start(state: StateDirectory, service: Service, ports: PortPicker) -> Facts:
    """Start one server; stop it again if it does not answer in time."""
    last = state.record(service.name)
    launch = service.prepare(ports, {} if last is None else last.ports)
    facts = launch.facts if service.tls is None else {**launch.facts, **service.tls.facts()}
    say(service.name, "starting")
    mark = spawn(launch.command, launch.environment, service.home, service.log)
    # Saved before it is ready: `down` finds it even if this process is killed now.
    state.save(service.name, Record(mark.pid, mark.started, launch.ports, facts))
    try:
        facts = wait_until_ready(service, mark, facts)
    except BaseException:
        stop(mark, service.stop_seconds)
        state.forget(service.name)
        raise
    state.save(service.name, Record(mark.pid, mark.started, launch.ports, facts))
    return facts


def wait_until_ready(service: Service, mark: ProcessMark, facts: Facts) -> Facts:
    """Poll until it answers. Raise `ServiceError` when it ends or the time is up."""
    deadline = time.monotonic() + service.start_seconds
    while True:
        try:
            return service.confirm(facts)
        except NotReadyError as error:
            reason = error
        if mark.find() is None:
            problem = "ended while it started"
        elif time.monotonic() > deadline:
            problem = f"does not answer after {service.start_seconds:.0f} s ({reason})"
        else:
            time.sleep(POLL_SECONDS)
            continue
        raise ServiceError(f"the server {problem}; {service.log} ends with\n{tail(service.log)}")


def down(state: StateDirectory, names: Iterable[str], *, wipe: bool = False) -> None:
    """Stop what runs and wait until it has ended; `wipe` deletes the data as well."""

    def one(name: str) -> None:
        home = state.home(name)
        service = SERVICES[name](home)
        record = state.running(name)
        if record is None:
            say(name, "does not run")
        elif stop(record.mark, service.stop_seconds):
            say(name, "stopped")
        else:
            say(name, f"killed: it did not stop within {service.stop_seconds:.0f} s")
        if record is not None:
            for path in service.leftovers(record.ports):
                path.unlink(missing_ok=True)
        state.forget(name)
        if wipe and home.exists():
            shutil.rmtree(home)
            say(name, "data removed")

    with state.changing():
        try:
            for_each(names, one)
        finally:
            publish(state)


def status(state: StateDirectory) -> dict[str, Facts | None]:
    """Return the facts of every service that runs and answers; None for the others."""
    return {name: answering(state, name) for name in SERVICES}


def answering(state: StateDirectory, name: str) -> Facts | None:
    record = state.running(name)
    if record is None:
        return None
    try:
        return SERVICES[name](state.home(name)).confirm(record.facts)
    except NotReadyError:
        return None


def publish(state: StateDirectory) -> None:
    records = {name: state.running(name) for name in SERVICES}
    state.publish({name: record.facts for name, record in records.items() if record is not None})


def for_each(names: Iterable[str], work: Callable[[str], None]) -> None:
    """Run the action for all services concurrently.

    Afterwards raise one `ServiceError` for all failures, a `ChoiceError` if any of them is one.
    """
    with ThreadPoolExecutor(max_workers=len(SERVICES)) as threads:
        tasks = {name: threads.submit(work, name) for name in names}
    problems = []
    kind: type[ServiceError] = ServiceError
    for name, task in tasks.items():
        error = task.exception()
        if isinstance(error, ServiceError):
            problems.append(f"{name}: {error}")
            kind = ChoiceError if isinstance(error, ChoiceError) else kind
        elif error is not None:
            raise error
    if problems:
        raise kind("\n".join(problems))


def described(facts: Facts) -> str:
    """Return the server's kind and address, without secrets."""
    where = facts.get("url") or facts.get("bootstrap_servers") or facts.get("endpoint_url", "")
    kind = f"{facts['kind']} " if "kind" in facts else ""
    address = where.rpartition("@")[2].partition("?")[0]
    with_tls = " with TLS" if "ca_file" in facts else ""
    return f"{kind}{facts.get('version', '')} at {address}{with_tls}"
