"""Many who review and vote at once: what is counted is what a recount finds."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from shop.products.models import ProductRating
from shop.reviews import queries
from shop.reviews.models import Review, ReviewVote
from tests import factories
from tests.web.checks import assert_problem

Headers = dict[str, str]
SIZES = [40, pytest.param(500, marks=pytest.mark.full)]


@pytest.fixture
def product(client: FlaskClient, staff: Headers) -> int:
    """The id of a product that is shown."""
    number: int = factories.create_product(client, staff)["id"]
    return number


def write(client: FlaskClient, product: int, headers: Headers, rating: Any = 4) -> Any:
    """What the shop answers to a review."""
    body = {"rating": rating, "text": "It stands."}
    return client.post(f"/api/v1/products/{product}/reviews", json=body, headers=headers)


def test_a_customer_who_reviews_fifty_times_at_once_has_reviewed_once(
    app: Flask, client: FlaskClient, product: int, customer: Headers, session: Session
) -> None:
    """CC-07."""

    def attempt(_number: int) -> int:
        status: int = write(app.test_client(), product, customer).status_code
        return status

    with ThreadPoolExecutor(50) as pool:
        statuses = Counter(pool.map(attempt, range(50)))

    assert statuses == {201: 1, 409: 49}
    assert session.scalar(select(func.count()).select_from(Review)) == 1


def recount(session: Session, product: int) -> dict[int, int]:
    """How many approved reviews gave so many stars, counted anew."""
    session.rollback()
    rows = session.execute(queries.counted()).all()
    return {stars: number for product_id, stars, number in rows if product_id == product}


def shown(client: FlaskClient, product: int) -> Any:
    """The rating that everybody sees."""
    return client.get(f"/api/v1/products/{product}").get_json()["rating"]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.timeout(1200)
def test_reviews_and_votes_of_many_at_once_equal_the_recount(
    app: Flask, client: FlaskClient, product: int, staff: Headers, *, session: Session, size: int
) -> None:
    """BL-09: written, approved, changed, rejected and voted for, each by another at a time."""
    people = [factories.sign_in(app, "customer") for _ in range(size)]
    famous = write(client, product, factories.sign_in(app, "customer"), 3).headers["Location"]
    client.post(f"{famous}/approve", headers=staff)

    def live(number: int) -> None:
        mine, client = people[number], app.test_client()
        where = write(client, product, mine, number % 5 + 1).headers["Location"]
        assert client.post(f"{where}/approve", headers=staff).status_code == 200
        assert client.put(f"{famous}/vote", headers=mine).status_code == 204
        if number % 3 == 0:
            client.patch(where, json={"rating": 5}, headers=mine)
            client.post(f"{where}/approve", headers=staff)
            client.delete(f"{famous}/vote", headers=mine)
        if number % 7 == 0:
            client.post(f"{where}/reject", headers=staff)
        if number % 11 == 0:
            client.delete(where, headers=mine)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(live, range(size)))

    counted = recount(session, product)
    assert sum(counted.values()) == 1 + sum(1 for n in range(size) if n % 7 and n % 11)
    rating = session.get_one(ProductRating, product)
    assert [getattr(rating, f"stars_{n}") for n in range(1, 6)] == [
        counted.get(n, 0) for n in range(1, 6)
    ]
    assert shown(client, product)["distribution"] == {
        str(n): counted.get(n, 0) for n in range(1, 6)
    }
    average = Fraction(sum(n * number for n, number in counted.items()), sum(counted.values()))
    assert shown(client, product)["average"] == round(float(average), 2)
    votes = session.scalar(select(func.count()).select_from(ReviewVote))
    assert client.get(famous).get_json()["helpful_count"] == votes
    assert votes == size - len(range(0, size, 3))


def test_what_is_no_rating_is_refused(
    client: FlaskClient, product: int, customer: Headers, session: Session
) -> None:
    """BL-09."""
    wrong: tuple[Any, ...] = (0, 6, -1, 4.5, 5.0, "5", True, None, [])
    for rating in wrong:
        assert_problem(write(client, product, customer, rating), "validation", "/rating")
    made = write(client, product, customer, 5).headers["Location"]
    for rating in (0, 6, 4.5):
        changed = client.patch(made, json={"rating": rating}, headers=customer)
        assert_problem(changed, "validation", "/rating")
    assert session.scalars(select(Review.rating)).all() == [5]


def test_a_second_review_and_an_edit_of_anothers_are_refused(
    app: Flask, client: FlaskClient, product: int, staff: Headers, customer: Headers
) -> None:
    """BL-09."""
    made = write(client, product, customer)
    where = made.headers["Location"]
    assert made.get_json()["verified"] is False, "nothing was delivered to its author"
    assert_problem(write(client, product, customer), "conflict")
    client.post(f"{where}/approve", headers=staff)

    for other in (factories.sign_in(app, "customer"), staff):
        answer = client.patch(where, json={"rating": 1}, headers=other)
        assert_problem(answer, "forbidden")
    assert client.get(where).get_json()["rating"] == 4


@pytest.mark.parametrize(
    ("stars", "average"),
    [((5, 4), 4.5), ((5, 5, 4), 4.67), ((1, 1, 2), 1.33), ((1, 5, 3, 2), 2.75), ((2,) * 3, 2.0)],
)
def test_the_average_is_exact(
    app: Flask, client: FlaskClient, product: int, staff: Headers, *, stars: tuple[int, ...],
    average: float,
) -> None:  # fmt: skip
    """BL-09: to two decimals."""
    assert shown(client, product)["average"] is None
    for rating in stars:
        made = write(client, product, factories.sign_in(app, "customer"), rating)
        client.post(f"{made.headers['Location']}/approve", headers=staff)

    assert shown(client, product)["average"] == average
    assert shown(client, product)["count"] == len(stars)


MARKUP = (
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "&lt;b&gt;", "<b>bold</b> & more",
    "javascript:alert(1)", "]]><!--", "\u202e<b>",
)  # fmt: skip


@pytest.mark.parametrize("text", MARKUP)
def test_markup_in_a_review_is_text_and_stays_as_it_is(
    client: FlaskClient, product: int, staff: Headers, customer: Headers, text: str
) -> None:
    body = {"rating": 5, "title": text, "text": text}
    url = f"/api/v1/products/{product}/reviews"
    where = client.post(url, json=body, headers=customer).headers["Location"]
    client.post(f"{where}/approve", headers=staff)
    client.post(f"{where}/reply", json={"text": text}, headers=staff)

    answer = client.get(where)

    shown = answer.get_json()
    assert (shown["title"], shown["text"], shown["reply"]) == (text, text, text)
    assert client.get(url).get_json()["items"] == [shown]
    assert answer.content_type == "application/json"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
