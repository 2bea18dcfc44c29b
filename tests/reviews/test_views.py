"""The doors of reviews."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from shop.audit.models import AuditEntry
from shop.products.models import ProductRating
from shop.reviews.models import Review
from tests import factories
from tests.web.checks import assert_problem

Headers = dict[str, str]


@pytest.fixture
def product(client: FlaskClient, staff: Headers) -> int:
    """The id of a product that is shown."""
    number: int = factories.create_product(client, staff)["id"]
    return number


def write(client: FlaskClient, product: int, headers: Headers, **changes: Any) -> Any:
    """A review of four stars, as it was answered."""
    body = {"rating": 4, "title": "Good", "text": "It <b>stands</b>."} | changes
    return client.post(f"/api/v1/products/{product}/reviews", json=body, headers=headers)


def rating(client: FlaskClient, product: int) -> Any:
    """The rating that the product shows."""
    return client.get(f"/api/v1/products/{product}").get_json()["rating"]


def listed(client: FlaskClient, product: int, query: str = "") -> list[int]:
    """Ids of the product's reviews as everybody sees them."""
    answer = client.get(f"/api/v1/products/{product}/reviews{query}")
    return [item["id"] for item in answer.get_json()["items"]]


def test_a_review_is_seen_and_counted_once_it_is_approved(
    client: FlaskClient, product: int, staff: Headers, customer: Headers
) -> None:
    answer = write(client, product, customer)
    where = answer.headers["Location"]

    assert answer.status_code == 201
    assert answer.get_json()["status"] == "pending"
    assert answer.get_json()["text"] == "It <b>stands</b>."
    assert client.get(where).status_code == 404, "others do not see it"
    assert client.get(where, headers=customer).status_code == 200
    assert (listed(client, product), rating(client, product)["count"]) == ([], 0)

    approved = client.post(f"{where}/approve", headers=staff)

    assert approved.get_json()["status"] == "approved"
    assert listed(client, product) == [approved.get_json()["id"]]
    assert rating(client, product) == {
        "average": 4.0, "count": 1, "distribution": {"1": 0, "2": 0, "3": 0, "4": 1, "5": 0},
    }  # fmt: skip

    client.post(f"{where}/approve", headers=staff)
    assert rating(client, product)["count"] == 1, "approving twice counts once"
    client.post(f"{where}/reject", headers=staff)
    assert (listed(client, product), rating(client, product)["count"]) == ([], 0)


def test_a_change_by_its_author_waits_to_be_approved_again(
    client: FlaskClient, product: int, staff: Headers, customer: Headers
) -> None:
    where = write(client, product, customer).headers["Location"]
    client.post(f"{where}/approve", headers=staff)

    changed = client.patch(where, json={"rating": 1}, headers=customer)

    assert (changed.get_json()["status"], changed.get_json()["rating"]) == ("pending", 1)
    assert rating(client, product)["count"] == 0
    client.post(f"{where}/approve", headers=staff)
    assert rating(client, product)["average"] == 1.0


def test_a_customer_reviews_a_product_once(
    app: Flask, client: FlaskClient, product: int, customer: Headers, session: Session
) -> None:
    def attempt(_number: int) -> int:
        status: int = write(app.test_client(), product, customer).status_code
        return status

    with ThreadPoolExecutor(8) as pool:
        statuses = sorted(pool.map(attempt, range(8)))

    assert statuses == [201, *[409] * 7]
    assert session.execute(select(func.count()).select_from(Review)).scalar_one() == 1
    assert_problem(write(client, product, customer), "conflict")


def test_votes_count_once_each_and_not_for_oneself(
    app: Flask, client: FlaskClient, product: int, staff: Headers, customer: Headers
) -> None:
    where = write(client, product, customer).headers["Location"]
    other = factories.sign_in(app, "customer")
    assert client.put(f"{where}/vote", headers=other).status_code == 404, "not seen yet"
    client.post(f"{where}/approve", headers=staff)

    assert_problem(client.put(f"{where}/vote", headers=customer), "forbidden")
    for _ in range(2):
        assert client.put(f"{where}/vote", headers=other).status_code == 204
    assert client.get(where).get_json()["helpful_count"] == 1
    for _ in range(2):
        assert client.delete(f"{where}/vote", headers=other).status_code == 204
    assert client.get(where).get_json()["helpful_count"] == 0


def test_only_its_author_changes_a_review_and_staff_may_delete_it(
    app: Flask, client: FlaskClient, product: int, staff: Headers, customer: Headers
) -> None:
    where = write(client, product, customer).headers["Location"]
    other = factories.sign_in(app, "customer")

    assert_problem(client.patch(where, json={"rating": 1}, headers=other), "not-found")
    assert_problem(client.patch(where, json={"rating": 1}, headers=staff), "forbidden")
    client.post(f"{where}/approve", headers=staff)
    assert_problem(client.patch(where, json={"rating": 1}, headers=other), "forbidden")
    assert_problem(client.delete(where, headers=other), "forbidden")
    assert client.delete(where, headers=staff).status_code == 204
    assert rating(client, product)["count"] == 0


@pytest.mark.parametrize("sort", ["newest", "helpful", "rating"])
def test_each_order_is_paged_through_without_gap_or_repetition(
    app: Flask, product: int, staff: Headers, session: Session, sort: str
) -> None:
    client = app.test_client()
    for stars in (3, 5, 3, 1, 5, 4, 3):
        answer = write(client, product, factories.sign_in(app, "customer"), rating=stars)
        client.post(f"{answer.headers['Location']}/approve", headers=staff)
    for number, review in enumerate(session.scalars(select(Review))):
        review.helpful_count = number % 3
    session.commit()
    keys = {
        "newest": lambda r: (r.id,),
        "helpful": lambda r: (r.helpful_count, r.id),
        "rating": lambda r: (r.rating, r.id),
    }
    wanted = sorted(session.scalars(select(Review)), key=keys[sort], reverse=True)

    seen: list[int] = []
    cursor: str | None = ""
    while cursor is not None:
        query = f"?sort={sort}&limit=2" + (f"&cursor={cursor}" if cursor else "")
        body = client.get(f"/api/v1/products/{product}/reviews{query}").get_json()
        seen += [item["id"] for item in body["items"]]
        cursor = body["next_cursor"]

    assert seen == [review.id for review in wanted]


def test_the_rating_stays_exact_when_many_are_approved_at_once(
    app: Flask, client: FlaskClient, product: int, staff: Headers, session: Session
) -> None:
    places = [
        write(client, product, factories.sign_in(app, "customer"), rating=n % 5 + 1).headers[
            "Location"
        ]
        for n in range(20)
    ]

    def moderate(place: str) -> None:
        for verb in ("approve", "reject", "approve"):
            assert app.test_client().post(f"{place}/{verb}", headers=staff).status_code == 200

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(moderate, places))

    assert rating(client, product)["distribution"] == {str(n): 4 for n in range(1, 6)}
    assert session.get_one(ProductRating, product).stars_3 == 4


def test_a_report_counts_once_for_staff(
    client: FlaskClient, product: int, staff: Headers, customer: Headers
) -> None:
    where = write(client, product, customer).headers["Location"]
    client.post(f"{where}/approve", headers=staff)

    for _ in range(2):
        sent = client.post(f"{where}/reports", json={"reason": "spam"}, headers=customer)
        assert sent.status_code == 202
    shown = client.get("/api/v1/reviews?status=approved", headers=staff).get_json()["items"]

    assert [item["report_count"] for item in shown] == [1]
    assert "report_count" not in client.get(where).get_json()


def test_the_shop_replies(
    client: FlaskClient, product: int, staff: Headers, customer: Headers
) -> None:
    where = write(client, product, customer).headers["Location"]

    client.post(f"{where}/reply", json={"text": "Thank you."}, headers=staff)

    assert client.get(where, headers=customer).get_json()["reply"] == "Thank you."


def test_who_is_erased_leaves_the_words_and_not_the_name(
    app: Flask, client: FlaskClient, product: int, staff: Headers, session: Session
) -> None:
    anna, bob = factories.sign_in(app, "customer"), factories.sign_in(app, "customer")
    where = write(client, product, anna).headers["Location"]
    client.post(f"{where}/approve", headers=staff)
    client.put(f"{where}/vote", headers=bob)
    client.post(f"{where}/reports", json={"reason": "spam"}, headers=bob)

    exported = client.get("/api/v1/users/me/export", headers=anna).get_json()["reviews"]
    assert [review["title"] for review in exported["written"]] == ["Good"]
    for headers in (anna, bob):
        assert client.delete("/api/v1/users/me", headers=headers).status_code == 204

    left = client.get(where).get_json()
    assert (left["author"], left["title"], left["helpful_count"]) == ("", "Good", 0)
    assert rating(client, product)["count"] == 1


def test_a_product_with_reviews_is_not_deleted(
    client: FlaskClient, product: int, staff: Headers, customer: Headers
) -> None:
    where = write(client, product, customer).headers["Location"]
    headers = staff | {"If-Match": "*"}

    assert_problem(client.delete(f"/api/v1/products/{product}", headers=headers), "conflict")
    client.delete(where, headers=staff)
    assert client.delete(f"/api/v1/products/{product}", headers=headers).status_code == 204


def test_the_name_of_an_author_enters_the_audit_log_masked(
    app: Flask, client: FlaskClient, product: int, session: Session
) -> None:
    write(client, product, factories.sign_in(app, "customer"))

    (entry,) = session.scalars(select(AuditEntry).where(AuditEntry.table_name == "reviews"))

    assert "Customer" not in entry.data
