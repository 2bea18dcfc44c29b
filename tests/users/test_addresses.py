"""The address book: one's own, and nobody else's."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from shop.audit.models import AuditEntry
from shop.users.addresses import MOST
from shop.users.models import Address, User
from shop.users.schemas import AddressPatch
from shop.web.countries import CODES
from tests import factories
from tests.web.checks import assert_problem

BOOK = "/api/v1/users/me/addresses"
TEXTS = {
    "name": 200, "line1": 200, "line2": 200, "city": 100, "region": 100, "postal_code": 20,
}  # fmt: skip
Headers = dict[str, str]


def address_body(**changes: Any) -> dict[str, Any]:
    """An address as a client sends it."""
    body = {
        "name": "Anna Larsson", "line1": "Storgatan 7", "city": "Malmö", "postal_code": "211 34",
        "country": "SE",
    }  # fmt: skip
    return body | changes


def add(client: FlaskClient, who: Headers, **changes: Any) -> dict[str, Any]:
    """Add an address; what the API answered."""
    answer = client.post(BOOK, json=address_body(**changes), headers=who)
    assert answer.status_code == 201, answer.text
    added: dict[str, Any] = answer.get_json()
    return added


def book(client: FlaskClient, who: Headers) -> list[dict[str, Any]]:
    """The whole address book of somebody."""
    items: list[dict[str, Any]] = client.get(BOOK, headers=who).get_json()["items"]
    return items


def defaults(client: FlaskClient, who: Headers) -> tuple[list[int], list[int]]:
    """Ids of the default addresses for shipping and for billing."""
    found = book(client, who)
    shipping = [item["id"] for item in found if item["default_shipping"]]
    return shipping, [item["id"] for item in found if item["default_billing"]]


def row(session: Session, address_id: int) -> tuple[Any, ...] | None:
    """Every column of an address, as it is committed now."""
    session.rollback()
    table = Address.__table__
    found = session.execute(select(table).where(table.c.id == address_id)).first()
    return None if found is None else tuple(found)


def at_once(work: Callable[[int], Any], threads: int) -> list[Any]:
    """What `work(number)` answers in threads that begin together."""
    together = threading.Barrier(threads, timeout=30)

    def begin(number: int) -> Any:
        together.wait()
        return work(number)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(begin, range(threads)))


def test_an_added_address_is_answered_as_it_is_then_read(
    client: FlaskClient, customer: Headers
) -> None:
    wish = address_body(line2="c/o Berg", region="Skåne", phone="+46 40 12-34 56")

    answer = client.post(BOOK, json=wish, headers=customer)

    added = answer.get_json()
    assert answer.status_code == 201
    assert answer.headers["Location"] == f"{BOOK}/{added['id']}"
    assert answer.headers["ETag"].startswith('"1-')
    assert added == wish | {
        "id": added["id"], "version": 1, "default_shipping": True, "default_billing": True,
    }  # fmt: skip
    read = client.get(answer.headers["Location"], headers=customer)
    assert (read.get_json(), read.headers["ETag"]) == (added, answer.headers["ETag"])
    assert book(client, customer) == [added]


def test_what_is_left_out_of_an_address_is_null(client: FlaskClient, customer: Headers) -> None:
    added = add(client, customer)

    assert [added[name] for name in ("line2", "region", "phone")] == [None, None, None]


def test_a_change_leaves_alone_what_it_does_not_name(
    client: FlaskClient, customer: Headers
) -> None:
    added = add(client, customer, line2="c/o Berg", phone="+46 40 1234")

    changes = {"line1": "Lillgatan 1", "line2": None}
    answer = client.patch(f"{BOOK}/{added['id']}", json=changes, headers=customer)

    assert answer.status_code == 200
    assert answer.get_json() == added | changes | {"version": 2}
    assert answer.headers["ETag"].startswith('"2-')
    assert book(client, customer) == [answer.get_json()]


def test_a_deleted_address_is_gone(client: FlaskClient, customer: Headers) -> None:
    path = f"{BOOK}/{add(client, customer)['id']}"

    answer = client.delete(path, headers=customer)

    assert (answer.status_code, answer.data) == (204, b"")
    assert book(client, customer) == []
    assert_problem(client.get(path, headers=customer), "not-found")
    assert_problem(client.delete(path, headers=customer), "not-found")


def test_the_first_address_is_the_default_and_the_next_ones_are_not(
    client: FlaskClient, customer: Headers
) -> None:
    first = add(client, customer, default_shipping=False)["id"]
    add(client, customer)
    add(client, customer, default_billing=False)

    assert defaults(client, customer) == ([first], [first])


def test_a_new_default_takes_the_place_of_the_old_one(
    client: FlaskClient, customer: Headers
) -> None:
    first, second, third = (add(client, customer)["id"] for _ in range(3))

    fourth = add(client, customer, default_shipping=True)["id"]
    assert defaults(client, customer) == ([fourth], [first])

    client.patch(f"{BOOK}/{second}", json={"default_billing": True}, headers=customer)
    assert defaults(client, customer) == ([fourth], [second])

    both = {"default_billing": True, "default_shipping": True}
    client.patch(f"{BOOK}/{third}", json=both, headers=customer)
    assert defaults(client, customer) == ([third], [third])

    client.patch(f"{BOOK}/{third}", json={"default_billing": False}, headers=customer)
    assert defaults(client, customer) == ([third], [])


def test_somebody_elses_default_stays_when_one_chooses_another(
    client: FlaskClient, customer: Headers, staff: Headers
) -> None:
    mine = add(client, customer)["id"]

    add(client, staff)
    add(client, staff, default_shipping=True, default_billing=True)

    assert defaults(client, customer) == ([mine], [mine])


def test_no_other_address_becomes_the_default_when_it_is_deleted(
    client: FlaskClient, customer: Headers
) -> None:
    first, _ = (add(client, customer)["id"] for _ in range(2))

    client.delete(f"{BOOK}/{first}", headers=customer)

    assert defaults(client, customer) == ([], [])


@pytest.mark.parametrize("how", ["add", "change"])
def test_of_many_defaults_chosen_at_once_one_is_left(app: Flask, how: str) -> None:
    who = factories.sign_in(app, "customer")
    ids = [] if how == "add" else [add(app.test_client(), who)["id"] for _ in range(6)]
    both = {"default_billing": True, "default_shipping": True}

    def choose(number: int) -> int:
        client = app.test_client()
        if how == "add":
            return client.post(BOOK, json=address_body(), headers=who).status_code
        return client.patch(f"{BOOK}/{ids[number]}", json=both, headers=who).status_code

    assert set(at_once(choose, 6)) == {201 if how == "add" else 200}

    shipping, billing = defaults(app.test_client(), who)
    assert (len(shipping), len(billing)) == (1, 1)


def fill(session: Session, user: User, entries: int) -> None:
    """Give somebody an address book of that many entries."""
    plain = address_body(user_id=user.id, default_shipping=False, default_billing=False)
    session.add_all(Address(**plain) for _ in range(entries))
    session.commit()


def test_an_address_book_has_fifty_entries_at_most(
    app: Flask, client: FlaskClient, session: Session
) -> None:
    user = factories.create_user(app)
    who = factories.headers_of(app, user)
    fill(session, user, MOST - 1)
    last = add(client, who)
    assert MOST == 50

    answer = client.post(BOOK, json=address_body(), headers=who)

    assert_problem(answer, "conflict")
    assert len(book(client, who)) == MOST
    client.delete(f"{BOOK}/{last['id']}", headers=who)
    add(client, who)


def test_of_many_last_entries_at_once_one_fits(app: Flask, session: Session) -> None:
    user = factories.create_user(app)
    who = factories.headers_of(app, user)
    fill(session, user, MOST - 1)

    statuses = at_once(
        lambda _: app.test_client().post(BOOK, json=address_body(), headers=who).status_code, 8
    )

    assert sorted(statuses) == [201] + [409] * 7
    assert len(book(app.test_client(), who)) == MOST


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
def test_a_stale_version_changes_nothing(
    client: FlaskClient, customer: Headers, session: Session, method: str
) -> None:
    path = f"{BOOK}/{add(client, customer)['id']}"
    old = client.get(path, headers=customer).headers["ETag"]
    client.patch(path, json={"city": "Lund"}, headers=customer)
    before = row(session, int(path.rpartition("/")[2]))
    change: dict[str, Any] = {"json": {"city": "Ystad"}} if method == "PATCH" else {}

    for tag in (old, '"1"', '"3"', "nonsense"):
        answer = client.open(path, method=method, headers=customer | {"If-Match": tag}, **change)
        assert_problem(answer, "version-conflict")
    assert row(session, int(path.rpartition("/")[2])) == before

    new = client.get(path, headers=customer).headers["ETag"]
    answer = client.open(path, method=method, headers=customer | {"If-Match": new}, **change)
    assert answer.status_code in (200, 204)


def test_who_has_the_book_already_is_told_so(client: FlaskClient, customer: Headers) -> None:
    path = f"{BOOK}/{add(client, customer)['id']}"

    for address in (BOOK, path):
        tag = client.get(address, headers=customer).headers["ETag"]
        again = client.get(address, headers=customer | {"If-None-Match": tag})
        assert (again.status_code, again.data) == (304, b"")


@pytest.mark.parametrize("who", ["customer", "staff", "admin"])
def test_somebody_elses_address_cannot_be_told_from_one_that_never_was(
    app: Flask, client: FlaskClient, session: Session, who: str
) -> None:
    """AZ-02, AZ-03."""
    anna, other = factories.sign_in(app, "customer"), factories.sign_in(app, who)
    theirs = add(client, anna)["id"]
    add(client, other)
    before = row(session, theirs)

    acts: tuple[tuple[str, dict[str, Any]], ...] = (
        ("GET", {}), ("PATCH", {"json": {"city": "X"}}), ("DELETE", {}),
    )  # fmt: skip
    for method, options in acts:
        for extra in ({}, {"If-Match": "*"}, {"If-Match": '"1"'}, {"If-Match": '"9"'}):
            seen = []
            for number in (theirs, 987_654_321):
                path, headers = f"{BOOK}/{number}", other | extra
                answer = client.open(path, method=method, headers=headers, **options)
                body = assert_problem(answer, "not-found")
                del body["request_id"], answer.headers["X-Request-ID"]
                seen.append((body, dict(answer.headers)))
            assert seen[0] == seen[1]
    assert row(session, theirs) == before


def test_a_list_holds_ones_own_addresses_whatever_one_asks_for(
    app: Flask, client: FlaskClient
) -> None:
    """AZ-02, AZ-05."""
    anna = factories.create_user(app)
    theirs = add(client, factories.headers_of(app, anna))["id"]
    other = factories.sign_in(app, "admin")
    mine = add(client, other)["id"]

    for query in (f"user_id={anna.id}", f"filter[user_id]={anna.id}", "fields=*", "all=1",
                  f"id={theirs}", "include=user", "sort=user_id", "limit=100"):  # fmt: skip
        answer = client.get(f"{BOOK}?{query}", headers=other)
        if answer.status_code != 422:
            assert [item["id"] for item in answer.get_json()["items"]] == [mine]


def test_nobody_else_can_name_the_owner_of_an_address(
    app: Flask, client: FlaskClient, session: Session
) -> None:
    """AZ-04."""
    anna, other = factories.create_user(app), factories.create_user(app)
    who = factories.headers_of(app, other)
    mine = add(client, who)["id"]

    for method, path in (("POST", BOOK), ("PATCH", f"{BOOK}/{mine}")):
        body = (address_body() if method == "POST" else {}) | {"user_id": anna.id}
        answer = client.open(path, method=method, json=body, headers=who)
        assert_problem(answer, "validation", "/user_id")
    assert [a.user_id for a in session.scalars(select(Address))] == [other.id]


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "DELETE"])
def test_an_address_book_is_not_for_strangers(client: FlaskClient, method: str) -> None:
    path = BOOK if method == "POST" else f"{BOOK}/1"

    assert_problem(client.open(path, method=method), "unauthenticated")


CONTROLS = ("a\nb", "a\rb", "a\0b", "a\x1bb", "a\x7fb", "a\u2028b", "a\x85b")
NO_TEXTS: tuple[Any, ...] = ("", " ", "\u3000", 1, True, ["x"], {}, *CONTROLS)
BAD: dict[str, tuple[Any, ...]] = {
    **{name: (*NO_TEXTS, "x" * (most + 1)) for name, most in TEXTS.items()},
    "country": ("XX", "se", "SWE", "", "S", "SE ", None, 46, ["SE"], "ＳＥ"),
    "phone": ("", "12", "+", "abc", "(040) 1", "12a", "1" * 31, "+46\n40", "١٢٣٤٥", "++46", 12345,
              " 12345", "12345;ext=1", "<12345>"),
    "default_shipping": (1, "true", [], None),
    "default_billing": (0, "", {}, None),
}  # fmt: skip
NEEDED = ("name", "line1", "city", "postal_code", "country")


def test_what_cannot_be_part_of_an_address_is_refused(
    client: FlaskClient, customer: Headers, session: Session
) -> None:
    """M17: nothing is bent into shape, and no control character gets in."""
    kept = add(client, customer)["id"]
    before = row(session, kept)

    for name, values in BAD.items():
        for bad in (*values, *([None] if name in NEEDED else [])):
            answer = client.post(BOOK, json=address_body(**{name: bad}), headers=customer)
            assert_problem(answer, "validation", f"/{name}")
            answer = client.patch(f"{BOOK}/{kept}", json={name: bad}, headers=customer)
            assert_problem(answer, "validation", f"/{name}")

    assert row(session, kept) == before
    assert len(book(client, customer)) == 1


def test_an_address_needs_what_the_post_needs(client: FlaskClient, customer: Headers) -> None:
    answer = client.post(BOOK, json={}, headers=customer)

    assert_problem(answer, "validation", *(f"/{name}" for name in NEEDED))


def test_every_country_can_be_lived_in() -> None:
    assert len(CODES) == len(set(CODES)) == 249
    for code in CODES:
        assert AddressPatch().load({"country": code}) == {"country": code}


@pytest.mark.parametrize("phone", ["123", "+46 40 12 (34) 56", "040/123.456", "1" * 30, None])
def test_phone_numbers_are_kept_as_they_are_written(
    client: FlaskClient, customer: Headers, phone: str | None
) -> None:
    assert add(client, customer, phone=phone)["phone"] == phone


def test_the_longest_texts_of_any_script_fit(client: FlaskClient, customer: Headers) -> None:
    for letter in "x漢🏠":
        texts = {name: letter * most for name, most in TEXTS.items()}

        assert texts.items() <= add(client, customer, **texts).items()


HOSTILE = (
    "<script>alert(1)</script>", "{{7*7}}", "${7*7}", "=cmd()|' /C calc'!A0", "' OR 1=1 --",
    '"><img src=x onerror=alert(1)>', "a\u202eb", "\\u0000 \\r\\n", "%0d%0aSet-Cookie: a=b", "🦊",
)  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_come_back_as_they_were(
    client: FlaskClient, customer: Headers, text: str
) -> None:
    """IN-21."""
    texts = {name: text for name, most in TEXTS.items() if len(text) <= most}

    added = add(client, customer, **texts)

    read = client.get(f"{BOOK}/{added['id']}", headers=customer)
    assert texts.items() <= read.get_json().items()
    assert read.content_type == "application/json"


def test_the_audit_log_tells_of_an_address_without_telling_it(
    client: FlaskClient, customer: Headers, session: Session
) -> None:
    """DO-15: the fact of a change stays visible."""
    texts = dict.fromkeys(TEXTS, "Canary") | {"phone": "+46 555 7777"}
    path = f"{BOOK}/{add(client, customer, **texts)['id']}"
    client.patch(path, json={"line1": "Canary too", "phone": "+47 555 7777"}, headers=customer)
    client.delete(path, headers=customer)

    wanted = select(AuditEntry).where(AuditEntry.table_name == "addresses")
    entries = session.scalars(wanted.order_by(AuditEntry.id)).all()

    assert [entry.action for entry in entries] == ["insert", "update", "delete"]
    for entry in entries:
        assert "anary" not in entry.data
        assert "555" not in entry.data
        assert '"line1":"C***"' in entry.data
        assert '"country":"SE"' in entry.data
    assert '"before":{"line1":"C***","phone":"+***"' in entries[1].data
