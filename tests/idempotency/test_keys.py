"""A request that is sent again has its effect once."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, delete, func, insert, select, text, update
from sqlalchemy.orm import Session
from werkzeug.test import TestResponse

from shop.db import database_ms
from shop.idempotency.models import IdempotencyKey
from shop.products.models import Product, StockLevel, StockMovement
from shop.web.problems import PROBLEMS
from tests import factories
from tests.users.checks import PRODUCTS, api_key, bearer
from tests.web.checks import assert_problem

Headers = dict[str, str]


def key(name: str) -> Headers:
    return {"Idempotency-Key": name}


def create(client: FlaskClient, headers: Headers, own: str, **changes: Any) -> TestResponse:
    """Create the same product, or a changed one, under a key."""
    body = {"name": "Oak table", "variants": [factories.variant_body(sku="OAK")]} | changes
    return client.post(PRODUCTS, json=body, headers=headers | key(own))


def products(session: Session) -> int:
    session.rollback()
    return session.execute(select(func.count()).select_from(Product)).scalar_one()


def keys(session: Session) -> list[tuple[str, int | None]]:
    """Key and status of each row."""
    session.rollback()
    found = select(IdempotencyKey.idempotency_key, IdempotencyKey.status)
    return [(row[0], row[1]) for row in session.execute(found)]


def expire(session: Session, by_ms: int = 1) -> None:
    """Let the time of every key be over."""
    session.rollback()
    session.execute(update(IdempotencyKey).values(expires_ms=database_ms() - by_ms))
    session.commit()


def test_a_request_that_is_sent_again_gets_the_same_answer_and_has_no_other_effect(
    client: FlaskClient, staff: Headers, session: Session
) -> None:
    """BL-15."""
    first = create(client, staff, "k1")
    again = create(client, staff, "k1")

    assert (first.status_code, again.status_code) == (201, 201)
    assert again.data == first.data
    for name in ("Location", "ETag", "Content-Type"):
        assert again.headers[name] == first.headers[name]
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.headers["X-Request-ID"] != first.headers["X-Request-ID"]
    assert products(session) == 1


def test_the_answer_is_the_one_that_was_given_whatever_happened_since(
    client: FlaskClient, staff: Headers
) -> None:
    """BL-15."""
    first = create(client, staff, "k1")
    where = first.headers["Location"]
    client.patch(where, json={"name": "Elm table"}, headers=staff | {"If-Match": "*"})

    assert create(client, staff, "k1").data == first.data


def test_what_was_refused_may_be_tried_again_with_the_same_key(
    client: FlaskClient, staff: Headers, session: Session
) -> None:
    """BL-15: out of stock, then a restock."""
    variant = factories.create_product(client, staff)["variants"][0]["id"]
    url = f"/api/v1/variants/{variant}/stock"
    taking = {"delta": -10, "reason": "sold at the fair"}

    refused = client.post(url, json=taking, headers=staff | key("k1"))
    assert_problem(refused, "out-of-stock")
    assert keys(session) == []
    client.post(url, json={"delta": 5, "reason": "came in"}, headers=staff)
    done = client.post(url, json=taking, headers=staff | key("k1"))
    again = client.post(url, json=taking, headers=staff | key("k1"))

    assert (done.status_code, again.data) == (200, done.data)
    session.rollback()
    assert session.get_one(StockLevel, variant).on_hand == 2


@pytest.mark.parametrize(
    "body", [{"name": ""}, {"name": "Oak", "variants": [], "x": 1}, {"name": 5}], ids=str
)
def test_a_request_that_is_not_valid_takes_no_key(
    client: FlaskClient, staff: Headers, session: Session, body: Any
) -> None:
    """BL-19."""
    answer = client.post(PRODUCTS, json=body, headers=staff | key("k1"))

    assert_problem(
        answer, "validation", *(fault["pointer"] for fault in answer.get_json()["errors"])
    )
    assert keys(session) == []
    assert create(client, staff, "k1").status_code == 201


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "Elm table"},
        {"description": "New"},
        {"variants": [{"sku": "OAK", "price": {"amount": 19901, "currency": "EUR"}, "stock": 7}]},
    ],
    ids=str,
)
@pytest.mark.parametrize("state", ["kept", "running"])
def test_the_key_of_another_request_is_refused(
    client: FlaskClient, staff: Headers, session: Session, changes: dict[str, Any], state: str
) -> None:
    """BL-16."""
    create(client, staff, "k1")
    if state == "running":
        session.execute(update(IdempotencyKey).values(status=None, body=None, headers=None))
        session.commit()

    assert_problem(create(client, staff, "k1", **changes), "idempotency-mismatch")
    assert products(session) == 1


def test_the_same_request_may_be_written_in_another_way(
    client: FlaskClient, staff: Headers, session: Session
) -> None:
    """BL-16: what counts is the value of the body, not its spelling."""
    headers = staff | key("k1") | {"Content-Type": "application/json"}
    compact = '{"name":"Oak","parent_id":null}'
    spacious = '{ "parent_id" : null,\n "name" : "\\u004fak" }'

    answers = [
        client.post("/api/v1/categories", data=body, headers=headers)
        for body in (compact, spacious)
    ]

    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[1].headers["Idempotency-Replayed"] == "true"


def test_keys_of_other_callers_and_other_operations_are_other_keys(
    app: Flask, client: FlaskClient, staff: Headers, session: Session
) -> None:
    """BL-16."""
    machine = bearer(api_key(app, "products:write"))
    other = factories.sign_in(app, "staff")
    for number, headers in enumerate((staff, other, machine)):
        sku = factories.variant_body(sku=f"OAK-{number}")
        answer = create(client, headers, "k1", name=f"Oak {number}", variants=[sku])
        assert answer.status_code == 201
        assert "Idempotency-Replayed" not in answer.headers
    shelf = client.post("/api/v1/categories", json={"name": "Oak"}, headers=staff | key("k1"))

    assert shelf.status_code == 201
    assert products(session) == 3


def test_the_same_key_on_another_thing_is_another_request(
    client: FlaskClient, staff: Headers
) -> None:
    """BL-16: the operation is the same, what it is about is not."""
    one, two = (factories.create_product(client, staff)["id"] for _ in range(2))
    body = factories.variant_body()

    first = client.post(f"{PRODUCTS}/{one}/variants", json=body, headers=staff | key("k1"))
    second = client.post(f"{PRODUCTS}/{two}/variants", json=body, headers=staff | key("k1"))

    assert first.status_code == 201
    assert_problem(second, "idempotency-mismatch")


def test_an_answer_is_only_for_those_who_may_still_call_the_operation(
    app: Flask, client: FlaskClient, session: Session
) -> None:
    """BL-16: no leak."""
    user = factories.create_user(app, role="staff")
    headers = factories.headers_of(app, user)
    create(client, headers, "k1")
    admin = factories.sign_in(app, "admin")
    patch = {"role": "customer"}
    client.patch(f"/api/v1/users/{user.id}", json=patch, headers=admin | {"If-Match": "*"})

    assert create(client, headers, "k1").status_code in (401, 403)


@pytest.mark.parametrize("name", ["", "x" * 256, "a\tb", "caf\xe9", "a\x7fb"], ids=repr)
def test_what_is_no_key_is_refused(
    client: FlaskClient, staff: Headers, session: Session, name: str
) -> None:
    """BL-19."""
    assert_problem(create(client, staff, name), "malformed")
    assert products(session) == 0


@pytest.mark.parametrize("name", ["x", "x" * 255, "a b", "~!@#$%^&*()", '"8e03978e"'])
def test_what_is_a_key_is_taken(client: FlaskClient, staff: Headers, name: str) -> None:
    """BL-19."""
    create(client, staff, name)

    assert create(client, staff, name).headers["Idempotency-Replayed"] == "true"


def test_case_and_accents_tell_keys_apart(client: FlaskClient, staff: Headers) -> None:
    create(client, staff, "Key")

    assert_problem(create(client, staff, "key"), "conflict")


def test_an_expired_key_is_a_new_one(client: FlaskClient, staff: Headers, session: Session) -> None:
    """BL-19: it runs again, and the answer is that of the new run."""
    create(client, staff, "k1")
    expire(session)

    assert_problem(create(client, staff, "k1"), "conflict")
    other = create(client, staff, "k1", variants=[factories.variant_body()])
    assert other.status_code == 201
    assert "Idempotency-Replayed" not in other.headers
    assert keys(session) == [("k1", 201)]


def test_the_claim_of_a_dead_worker_counts_until_its_time_is_over(
    client: FlaskClient, staff: Headers, session: Session
) -> None:
    """BL-18."""
    create(client, staff, "k1")
    session.execute(update(IdempotencyKey).values(status=None, body=None, headers=None))
    # What it had done is rolled back with it.
    for table in ("listed_values", "product_listings", "stock_levels", "variants", "products"):
        session.execute(text(f"DELETE FROM {table}"))
    session.commit()

    running = create(client, staff, "k1")
    assert_problem(running, "idempotency-in-progress")
    assert running.headers["Retry-After"] == "1"
    expire(session)

    assert create(client, staff, "k1").status_code == 201
    assert create(client, staff, "k1").headers["Idempotency-Replayed"] == "true"


@pytest.mark.parametrize("how", ["taken", "removed"])
def test_a_request_that_lost_its_key_leaves_nothing(
    app: Flask, client: FlaskClient, staff: Headers, session: Session, how: str
) -> None:
    """BL-18: the claim fences the effects."""
    losing: Any = delete(IdempotencyKey)
    if how == "taken":
        losing = update(IdempotencyKey).values(claim=IdempotencyKey.claim + 1)
    app.extensions["idempotency"] = LosingKeys(app.extensions["idempotency"], losing)
    try:
        answer = create(client, staff, "k1")
    finally:
        app.extensions["idempotency"] = app.extensions["idempotency"].real

    assert_problem(answer, "idempotency-in-progress")
    assert products(session) == 0
    assert keys(session) == []


class LosingKeys:
    """Real keys, but somebody comes between the effects and the answer."""

    def __init__(self, real: Any, losing: Any) -> None:
        self.real, self._losing = real, losing
        self.claim, self.free = real.claim, real.free

    def keep(self, claim: Any, answer: Any, bundle: Any = None) -> None:
        from shop.db import db

        db.session.connection().execute(self._losing)
        self.real.keep(claim, answer, bundle)


def test_without_a_key_nothing_is_kept(
    client: FlaskClient, staff: Headers, session: Session
) -> None:
    factories.create_product(client, staff)

    assert keys(session) == []


def test_a_second_row_for_a_key_is_refused_by_the_database(
    client: FlaskClient, staff: Headers, engine: Engine
) -> None:
    """DL-12."""
    create(client, staff, "k1")
    with engine.connect() as connection:
        row = connection.execute(select(IdempotencyKey)).mappings().one()
        copy = {name: value for name, value in row.items() if name != "id"}
        with pytest.raises(Exception, match=r"(?i)unique|duplicate"):
            connection.execute(insert(IdempotencyKey).values(copy))


def test_the_problems_have_pages(client: FlaskClient) -> None:
    for slug in ("idempotency-key-required", "idempotency-mismatch", "idempotency-in-progress"):
        assert slug in PROBLEMS
        assert client.get(f"/problems/{slug}").status_code == 200


@pytest.mark.parametrize("engine_name", ["mariadb"], indirect=True)
def test_while_the_first_runs_the_others_are_told_to_wait(
    app: Flask, client: FlaskClient, staff: Headers, session: Session, engine: Engine
) -> None:
    """BL-17: the first waits for a row that the test holds."""
    variant = factories.create_product(client, staff)["variants"][0]["id"]
    session.execute(select(StockLevel).with_for_update())
    answers: list[TestResponse] = []

    def take() -> TestResponse:
        return app.test_client().post(
            f"/api/v1/variants/{variant}/stock", json={"delta": -1, "reason": "sold"},
            headers=staff | key("k1"),
        )  # fmt: skip

    first = threading.Thread(target=lambda: answers.append(take()))
    first.start()
    with Session(engine) as watching:
        while not keys(watching):
            time.sleep(0.01)
    second, third = take(), take()
    session.rollback()
    first.join()
    fourth = take()

    for answer in (second, third):
        assert_problem(answer, "idempotency-in-progress")
        assert answer.headers["Retry-After"] == "1"
    assert [answer.status_code for answer in (*answers, fourth)] == [200, 200]
    assert fourth.data == answers[0].data
    moves = select(func.count()).where(StockMovement.reason == "sold")
    assert session.execute(moves).scalar_one() == 1


def test_of_many_at_once_one_has_an_effect(app: Flask, staff: Headers, session: Session) -> None:
    """CC-08."""
    answers: list[TestResponse] = []
    gate = threading.Barrier(8)

    def send() -> None:
        client = app.test_client()
        gate.wait()
        answers.append(create(client, staff, "k1"))

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    done = [answer for answer in answers if answer.status_code == 201]
    for answer in answers:
        if answer not in done:
            assert_problem(answer, "idempotency-in-progress")
    assert len(answers) == 8
    assert len({answer.data for answer in done}) == 1
    assert products(session) == 1
