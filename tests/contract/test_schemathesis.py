"""The OpenAPI document and the shop say the same: schemathesis tries to prove otherwise."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from schemathesis.engine import Status, events, from_schema

from shop.notifications import streaming
from tests.conftest import create_shop
from tests.contract.world import THINGS, World
from tests.servers import MariaDB
from tests.users.checks import served

#: Statuses that a request within the document may get besides success.
DECENT = ["2xx", "302", "304", "401", "403", "404", "409", "412", "429"]


@pytest.fixture(params=["anonymous", "customer", "staff", "admin"])
def world(request: pytest.FixtureRequest, engine_name: str, tmp_path: Path) -> Iterator[World]:
    """A shop of its own, with ids from 1, and a caller of each role.

    The signed-in ones try more often than the shop would let strangers.
    """
    url = ""
    if engine_name == "mariadb":
        server: MariaDB = request.getfixturevalue("mariadb")
        url = server.create_database(f"contract{time.monotonic_ns()}")
    limits = "on" if request.param == "anonymous" else "off"
    app = create_shop(tmp_path, database_url=url, rate_limits=limits, propagate_errors=False)
    yield World(app, request.param)
    app.extensions["shop"].engine.dispose()
    app.extensions["shop"].reader.dispose()


@pytest.fixture
def address(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of the shop, served by a thread of this process. Its streams end at once."""
    monkeypatch.setattr(streaming, "_MARGIN_SECONDS", 3600.0)
    with served(world.app) as port:
        yield f"http://127.0.0.1:{port}"


#: Whatever is sent as a file is text: rows that are bad are told afterwards.
_FILE = {"negative_data_rejection": {"enabled": False}}
FILES = {"import_products": _FILE}


def send_as_it_is(_context: Any, value: Any) -> Any:
    """A file is its bytes: schemathesis knows no other way to send one of these types."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")


for media_type in ("text/csv", "application/x-ndjson"):
    schemathesis.serializer(media_type)(send_as_it_is)


@dataclass
class Findings:
    """What a run of schemathesis saw."""

    failures: set[str] = field(default_factory=set)
    statuses: Counter[int] = field(default_factory=Counter)
    phases: Counter[str] = field(default_factory=Counter)
    operations: set[str] = field(default_factory=set)
    reached: set[str] = field(default_factory=set)

    def note(self, event: Any) -> None:
        """Take in what happened."""
        if isinstance(event, events.NonFatalError | events.FatalError):
            self.failures.add(str(getattr(event, "info", event)))
        if not isinstance(event, events.ScenarioFinished):
            return
        self.phases[event.phase.value] += 1
        for id_, case in event.recorder.cases.items():
            self._note_answer(case.value, event.recorder.interactions.get(id_))
        for checks in event.recorder.checks.values():
            self._note_checks(checks)

    def _note_answer(self, case: Any, interaction: Any) -> None:
        self.operations.add(case.operation.label)
        if interaction is None or interaction.response is None:
            return
        status = interaction.response.status_code
        self.statuses[status] += 1
        # Other methods are tried on its address too.
        if (status < 300 or status == 302) and case.method == case.operation.method.upper():
            self.reached.add(case.operation.label)

    def _note_checks(self, checks: list[Any]) -> None:
        for check in checks:
            if check.status is Status.FAILURE:
                found = check.failure_info
                what = f"{found.failure.message}\n{found.code_sample}" if found else ""
                self.failures.add(f"{check.name}: {what}")


def configuration(world: World, examples: int) -> schemathesis.Config:
    """All phases, all checks."""
    # Nobody's token is made up, and a comma in it makes two headers of one.
    decent = [*DECENT, "400"] if world.role == "anonymous" else DECENT
    opaque = {"positive_data_acceptance": {"expected-statuses": [*decent, "422"]}}
    return schemathesis.Config.from_dict(
        {
            "seed": 20261122,
            # Who calls is said below.
            "auth": {"auto-signup": False},
            "continue-on-failure": True,
            "generation": {"max-examples": examples, "database": "none"},
            "operations": [
                {"include-operation-id": name, "checks": opaque}
                for name in sorted(judged_by_more_than_their_form(world) - set(FILES))
            ]
            + [
                {"include-operation-id": name, "checks": opaque | checks}
                for name, checks in FILES.items()
            ],
            "checks": {
                "positive_data_acceptance": {"expected-statuses": decent},
                "missing_required_header": {
                    "expected-statuses": ["400", "401", "403", "404", "428"]
                },
                "max_response_time": 10,
            },
        }
    )


def documented(world: World) -> dict[str, Any]:
    """Every operation of the document, by its name for schemathesis."""
    paths = world.app.test_client().get("/openapi.json").get_json()["paths"]
    return {
        f"{method.upper()} {path}": operation
        for path, operations in paths.items()
        for method, operation in operations.items()
    }


def judged_by_more_than_their_form(world: World) -> set[str]:
    """Operations that take what no pattern tells from others like it.

    A cursor that the shop gave, in a query; the id of a thing that is there, in a body; values of
    attributes that fit their definitions, and options that fit their kind; a time that is not long
    ago, and a range of times that is not too long; a key that no other request has, in a header.
    """
    document = world.app.test_client().get("/openapi.json").get_json()
    found = set()
    for operation in documented(world).values():
        headers = {it["name"] for it in operation.get("parameters", []) if it["in"] == "header"}
        queries = {it["name"] for it in operation.get("parameters", []) if it["in"] == "query"}
        content = operation.get("requestBody", {}).get("content", {})
        schema = content.get("application/json", {}).get("schema", {}).get("$ref", "")
        shape = document["components"]["schemas"].get(schema.rpartition("/")[2], {})
        names = shape.get("properties", {})
        judged = {"attributes", "options", "rows", "at"} & set(names) or "granularity" in queries
        is_file = bool(content) and "application/json" not in content
        opaque = "cursor" in queries or "Idempotency-Key" in headers or judged or is_file
        if opaque or any(name.endswith("_id") for name in names):
            found.add(operation["operationId"])
    return found


def whole(value: Any) -> Any:
    """The value with 2.0 written as 2: one number to JSON Schema, two to this shop."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: whole(part) for key, part in value.items()}
    return [whole(part) for part in value] if isinstance(value, list) else value


def operation_id(operation: Any) -> str:
    """The `operationId` of an operation."""
    name: str = operation.definition.raw["operationId"]
    return name


def let_in(schema: Any, world: World) -> None:
    """Call as the world's caller, and know what only somebody with an account does."""

    @schema.auth(refresh_interval=None)
    class CallerOfWorld:
        def get(self, case: Any, _context: Any) -> dict[str, str]:
            return world.headers(operation_id(case.operation))

        def set(self, case: Any, headers: dict[str, str], _context: Any) -> None:
            case.headers = {**(case.headers or {}), **headers}
            mine = operation_id(case.operation) == "end_my_session"
            if mine and is_id(case.path_parameters.get("id")):
                own = world.own_session(headers)
                case.path_parameters = {"id": own or 1}

    @schema.hook  # type: ignore[untyped-decorator]
    def map_body(context: Any, body: Any) -> Any:
        body = whole(body)
        if not isinstance(body, dict):
            return body
        # What is wrong with a body stays wrong: only what could be right becomes so.
        known = world.secret(operation_id(context.operation))
        return body | {name: it for name, it in known.items() if could_be_secret(body.get(name))}


def could_be_secret(value: Any) -> bool:
    """Whether the document allows it as a token, a password or an address."""
    return isinstance(value, str) and 0 < len(value) <= 200 and "\0" not in value


def is_id(value: Any) -> bool:
    """Whether the document allows it as an id."""
    return type(value) is int and 0 < value < 2**63


def try_to_break(address: str, world: World, examples: int) -> Findings:
    """Run schemathesis against the shop."""
    config = configuration(world, examples)
    schema = schemathesis.openapi.from_url(f"{address}/openapi.json", config=config)

    @schema.hook
    def map_path_parameters(context: Any, parameters: Any) -> Any:
        # Ids of things that exist, instead of one in 2^63.
        id_: Any = (parameters or {}).get("id")
        if is_id(id_):
            return {**parameters, "id": id_ % (THINGS + 2) + 1}
        if isinstance(id_, str) and operation_id(context.operation) == "get_product":
            return {**parameters, "id": str(len(id_) % (THINGS + 2) + 1)}
        return parameters

    if world.role != "anonymous":
        let_in(schema, world)
    findings = Findings()
    for event in from_schema(schema).execute():
        findings.note(event)
    return findings


def check(findings: Findings, world: World, share_unreached: float) -> None:
    """Nothing was found, and it was looked for, behind all doors but a share of them."""
    assert not findings.failures, "\n\n".join(sorted(findings.failures))
    assert set(findings.phases) == {"examples", "coverage", "fuzzing", "stateful"}
    operations = documented(world)
    assert findings.operations == set(operations)
    assert not any(status >= 500 for status in findings.statuses)
    expected = {200, 401, 404, 405, 415, 422}
    if world.role == "anonymous":
        assert expected <= set(findings.statuses)
        return
    expected |= {201, 202, 204, 403} - ({403} if world.role == "admin" else set())
    expected |= {412, 428} if world.role != "customer" else set()
    assert expected <= set(findings.statuses)
    assert findings.statuses[401] < 0.25 * findings.statuses.total()
    allowed = {name for name, it in operations.items() if world.role in it["x-roles"]}
    assert findings.reached <= allowed
    # Nobody got in, or there was nothing: world.py has to know more.
    unreached = sorted(allowed - findings.reached)
    assert len(unreached) <= share_unreached * len(allowed), unreached


@pytest.mark.parametrize("engine_name", ["sqlite"], indirect=True)
def test_the_shop_does_what_its_document_says(address: str, world: World) -> None:
    check(try_to_break(address, world, examples=6), world, 0.25)


@pytest.mark.full
@pytest.mark.timeout(3600)
def test_the_shop_does_what_its_document_says_in_thousands_of_cases(
    address: str, world: World
) -> None:
    check(try_to_break(address, world, examples=100), world, 0)
