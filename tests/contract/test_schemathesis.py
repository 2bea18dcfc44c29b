"""The OpenAPI document and the shop say the same: schemathesis tries to prove otherwise."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import schemathesis
from flask import Flask
from schemathesis.engine import Status, events, from_schema
from werkzeug.serving import WSGIRequestHandler, make_server

from tests import factories

#: Statuses that a request within the document may get besides success.
DECENT = ["2xx", "304", "401", "403", "404", "409", "412"]


class SilentHandler(WSGIRequestHandler):
    """Writes no line for each request."""

    def log(self, type: str, message: str, *args: Any) -> None:
        """Nothing."""


@pytest.fixture
def address(app: Flask, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of the shop, served by a thread of this process."""
    monkeypatch.setitem(app.config, "PROPAGATE_ERRORS", False)
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=SilentHandler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    # What comes is logged, and is hostile by the thousand.
    logging.disable(logging.WARNING)
    yield f"http://127.0.0.1:{server.server_port}"
    logging.disable(logging.NOTSET)
    server.shutdown()
    thread.join()
    server.server_close()


@dataclass
class Findings:
    """What a run of schemathesis saw."""

    failures: set[str] = field(default_factory=set)
    statuses: Counter[int] = field(default_factory=Counter)
    phases: Counter[str] = field(default_factory=Counter)
    operations: set[str] = field(default_factory=set)

    def note(self, event: Any) -> None:
        """Take in what happened."""
        if isinstance(event, events.NonFatalError | events.FatalError):
            self.failures.add(str(getattr(event, "info", event)))
        if not isinstance(event, events.ScenarioFinished):
            return
        self.phases[event.phase.value] += 1
        for case in event.recorder.cases.values():
            self.operations.add(case.value.operation.label)
        for interaction in event.recorder.interactions.values():
            if interaction.response is not None:
                self.statuses[interaction.response.status_code] += 1
        for checks in event.recorder.checks.values():
            self._note_checks(checks)

    def _note_checks(self, checks: list[Any]) -> None:
        for check in checks:
            if check.status is Status.FAILURE:
                found = check.failure_info
                what = f"{found.failure.message}\n{found.code_sample}" if found else ""
                self.failures.add(f"{check.name}: {what}")


def configuration(headers: dict[str, str], examples: int) -> schemathesis.Config:
    """All phases, all checks."""
    # A cursor is opaque: no pattern tells those that the shop gave from all others.
    opaque = {"positive_data_acceptance": {"expected-statuses": [*DECENT, "422"]}}
    return schemathesis.Config.from_dict(
        {
            "seed": 20261122,
            "headers": headers,
            "continue-on-failure": True,
            "generation": {"max-examples": examples, "database": "none"},
            "operations": [{"include-operation-id": "list_products", "checks": opaque}],
            "checks": {
                "positive_data_acceptance": {"expected-statuses": DECENT},
                "missing_required_header": {"expected-statuses": ["401", "403", "404", "428"]},
                "max_response_time": 10,
            },
        }
    )


def whole(value: Any) -> Any:
    """The value with 2.0 written as 2: one number to JSON Schema, two to this shop."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: whole(part) for key, part in value.items()}
    return [whole(part) for part in value] if isinstance(value, list) else value


def try_to_break(address: str, headers: dict[str, str], examples: int) -> Findings:
    """Run schemathesis against the shop."""
    config = configuration(headers, examples)
    schema = schemathesis.openapi.from_url(f"{address}/openapi.json", config=config)

    @schema.hook
    def map_body(_context: Any, body: Any) -> Any:
        return whole(body)

    @schema.hook
    def map_path_parameters(_context: Any, parameters: Any) -> Any:
        # Ids of things that exist, instead of one in 2^63.
        id_ = (parameters or {}).get("id")
        if type(id_) is int and 0 < id_ < 2**63:
            return {**parameters, "id": id_ % 20 + 1}
        return parameters

    findings = Findings()
    for event in from_schema(schema).execute():
        findings.note(event)
    return findings


@pytest.fixture(params=["anonymous", "staff"])
def headers(request: pytest.FixtureRequest, app: Flask) -> dict[str, str]:
    """Headers of a caller, in a shop with some products."""
    staff = factories.sign_in(app, "staff")
    client = app.test_client()
    for status in ("active", "draft", "archived", "active"):
        factories.create_product(client, staff, status=status)
    return staff if request.param == "staff" else {}


def check(findings: Findings, headers: dict[str, str]) -> None:
    """Nothing was found, and it was looked for."""
    assert not findings.failures, "\n\n".join(sorted(findings.failures))
    assert len(findings.phases) == 4
    assert len(findings.operations) >= 7
    expected = {200, 401, 404, 405, 415, 422}
    expected |= {201, 204, 412, 428} if headers else set()
    assert expected <= set(findings.statuses)
    assert not any(status >= 500 for status in findings.statuses)


@pytest.mark.parametrize("engine_name", ["sqlite"], indirect=True)
def test_the_shop_does_what_its_document_says(address: str, headers: dict[str, str]) -> None:
    check(try_to_break(address, headers, examples=15), headers)


@pytest.mark.full
@pytest.mark.timeout(3600)
def test_the_shop_does_what_its_document_says_in_thousands_of_cases(
    address: str, headers: dict[str, str]
) -> None:
    check(try_to_break(address, headers, examples=500), headers)
