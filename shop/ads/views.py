"""The doors of ads."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, cast

from flask import Response, current_app, request, url_for

from shop import clock
from shop.ads import counting, operations, queries, stats
from shop.ads.agents import is_bot, is_prefetch
from shop.ads.counting import Judge, Sender, Shown
from shop.ads.models import Kind, State
from shop.ads.rules import Rules
from shop.ads.schemas import (
    AdIn,
    AdOut,
    AdPage,
    AdPatch,
    AdQuery,
    ClickQuery,
    ClicksIn,
    ImpressionsIn,
    StatsOut,
    StatsQuery,
    ad_out,
    bucket_out,
    counts_out,
    events_of,
)
from shop.db import db, read, transactional
from shop.errors import NotFound
from shop.limits.networks import client_network
from shop.limits.throttle import current_throttle
from shop.web.answers import answer, check_version, let_caches_keep
from shop.web.api import ETAG, LINK, LOCATION, Blueprint
from shop.web.callers import EMPLOYEES, EVERYONE, current_caller
from shop.web.fields import LARGEST_ID
from shop.web.idempotency import keep_answer
from shop.web.pagination import decode_cursor, page

ads = Blueprint("ads", __name__, description="Ads, and what came of them")

_GOES_TO = {"Location": {"description": "The ad's `target_url`.", "schema": {"type": "string"}}}


def _rules() -> Rules:
    return cast(Rules, current_app.extensions["ads"])


@ads.get("/ads")
@ads.allow(*EVERYONE)
@ads.query(AdQuery)
@ads.response(200, AdPage, headers=ETAG | LINK)
@ads.conditional
def list_ads(
    limit: int,
    tokens: str,
    cursor: str | None = None,
    placement: str | None = None,
    status: str | None = None,
) -> Response:
    """The ads that are to be shown, newest first; for staff all of them.

    ---
    With `tokens=true` each comes with a token, which nobody keeps for others.
    """
    only_open = not current_caller().is_employee
    (before,) = decode_cursor("ads", cursor, (int,)) if cursor else (LARGEST_ID,)
    moment = clock.now()
    asked = queries.listed(
        open_at=moment if only_open else None, placement=placement,
        status=None if only_open else status, before=cast(int, before), limit=limit + 1,
    )  # fmt: skip
    rows = read(asked)

    def shape(shown: Sequence[Any]) -> list[dict[str, Any]]:
        return [_with_token(ad, moment) if tokens == "true" else ad_out(ad) for ad in shown]

    listed = page(rows, limit, scope="ads", key=lambda ad: (ad.id,), shape=shape)
    if tokens == "true":
        listed.headers["Cache-Control"] = "no-store"
        return listed
    return let_caches_keep(listed)


def _with_token(ad: Any, moment: datetime) -> dict[str, Any]:
    return ad_out(ad) | {"token": _rules().token(ad.id, moment)}


@ads.post("/ads")
@ads.allow(*EMPLOYEES, scope="ads:write")
@ads.body(AdIn)
@ads.response(201, AdOut, headers=ETAG | LOCATION)
@ads.idempotent()
@transactional
def create_ad(data: dict[str, Any]) -> Response:
    """Create an ad, which leads to its `target_url` and nowhere else."""
    ad = operations.create_ad(db.session(), data)
    location = url_for("ads.get_ad", id=ad.id)
    return keep_answer(answer(ad_out(ad), 201, version=ad.version, location=location))


@ads.get("/ads/<id:id>")
@ads.allow(*EVERYONE)
@ads.response(200, AdOut, headers=ETAG)
@ads.conditional
@ads.shared
@ads.refuses(404)
def get_ad(id: int) -> Response:
    """One ad: one that is to be shown, or for staff any."""
    rows = read(queries.ONE, id=id)
    if not rows or not (current_caller().is_employee or _is_open(rows[0])):
        raise _no_ad(id)
    return answer(ad_out(rows[0]), version=rows[0].version)


def _no_ad(id: int) -> NotFound:
    return NotFound(f"There is no ad {id}.")


def _is_open(ad: Any) -> bool:
    return Shown(ad.id, ad.status, ad.starts_at, ad.ends_at).is_open(clock.now())


@ads.patch("/ads/<id:id>")
@ads.allow(*EMPLOYEES, scope="ads:write")
@ads.body(AdPatch)
@ads.response(200, AdOut, headers=ETAG)
@ads.refuses(404, 412)
@transactional
def change_ad(changes: dict[str, Any], id: int) -> Response:
    """Change an ad. `If-Match` is honoured."""
    ad = operations.find_for_change(db.session(), id)
    check_version(ad.version)
    operations.change_ad(db.session(), ad, changes)
    return answer(ad_out(ad), version=ad.version)


@ads.delete("/ads/<id:id>")
@ads.allow(*EMPLOYEES, scope="ads:write")
@ads.response(204)
@ads.refuses(404, 412)
@transactional
def delete_ad(id: int) -> Response:
    """Delete an ad; archive it instead to go on seeing its statistics. `If-Match` is honoured."""
    ad = operations.find_for_change(db.session(), id)
    check_version(ad.version)
    operations.delete_ad(db.session(), ad)
    return Response(status=204)


@ads.post("/ads/<id:id>/impressions")
@ads.allow(*EVERYONE)
@ads.body(ImpressionsIn, required=False)
@ads.response(204)
@ads.refuses(404, 429)
def count_impressions(data: dict[str, Any], id: int) -> Response:
    """Tell that an ad was shown: once, or up to 500 times.

    ---
    An event that is sent again under the same `id` counts once. What counts is in docs/ads.md.
    """
    return _count(id, Kind.IMPRESSION, data)


@ads.post("/ads/<id:id>/clicks")
@ads.allow(*EVERYONE)
@ads.body(ClicksIn, required=False)
@ads.response(204)
@ads.refuses(404, 429)
def count_clicks(data: dict[str, Any], id: int) -> Response:
    """Tell that an ad was clicked: once, or up to 500 times.

    ---
    An event that is sent again under the same `id` counts once, and so does a visitor within the
    window of the shop. What counts is in docs/ads.md.
    """
    return _count(id, Kind.CLICK, data)


@ads.get("/ads/<id:id>/click")
@ads.allow(*EVERYONE)
@ads.query(ClickQuery)
@ads.response(302, headers=_GOES_TO)
@ads.refuses(404)
def follow_ad(id: int, token: str | None = None) -> Response:
    """Count a click and go to the ad's `target_url`, never anywhere else. HEAD counts nothing.

    ---
    Who clicks more than is counted of a network still gets there, and so does a click that does
    not count.
    """
    ad, target = _counted_ad(id)
    if request.method != "HEAD" and (_is_trusted() or _may_count(1)):
        _record(ad, Kind.CLICK, [{} if token is None else {"token": token}])
    response = Response(status=302, headers={"Location": target, "Cache-Control": "no-store"})
    response.autocorrect_location_header = False
    del response.headers["Content-Type"]
    return response


def _count(id: int, kind: Kind, data: dict[str, Any]) -> Response:
    events = events_of(data)
    ad, _ = _counted_ad(id)
    if not _is_trusted():
        current_throttle().hit("ad-events", client_network(request), len(events or "1"))
    _record(ad, kind, [data] if events is None else events, "" if events is None else "/events/{}")
    return Response(status=204)


def _counted_ad(id: int) -> tuple[Shown, str]:
    """What counting has to know of an ad, and where it leads. Raises NotFound."""
    rows = read(queries.COUNTING, id=id)
    if rows:
        ad = Shown(id, rows[0].status, rows[0].starts_at, rows[0].ends_at)
        if ad.is_published or current_caller().is_employee:
            return ad, rows[0].target_url
    raise _no_ad(id)


def _is_trusted() -> bool:
    """Whether the caller counts for others: then neither its limit nor its agent matters."""
    caller = current_caller()
    return caller.is_employee or "ads:write" in caller.scopes


def _may_count(events: int) -> bool:
    return current_throttle().allows("ad-events", client_network(request), events)


def _record(ad: Shown, kind: Kind, events: Sequence[dict[str, Any]], place: str = "") -> None:
    moment = clock.now()
    judge = Judge(_rules(), ad, kind, _sender(), moment)
    _write(ad.id, kind, judge.rows(events, place), moment)


def _sender() -> Sender:
    agent = request.headers.get("User-Agent", "")
    visitor = f"{client_network(request)} {agent}"
    if _is_trusted():
        return Sender(visitor)
    if is_bot(agent):
        return Sender(visitor, State.BOT)
    return Sender(visitor, State.PREFETCH if is_prefetch(request.headers.get) else None)


@transactional
def _write(ad_id: int, kind: Kind, rows: Sequence[counting.Row], moment: datetime) -> None:
    counting.write_events(db.session(), ad_id, kind, rows, moment)


@ads.get("/ads/<id:id>/stats")
@ads.allow(*EMPLOYEES)
@ads.query(StatsQuery)
@ads.response(200, StatsOut, headers=ETAG)
@ads.conditional
@ads.refuses(404)
def get_ad_stats(id: int, granularity: str, begins: Any = None, ends: Any = None) -> Response:
    """How often an ad was shown and clicked, for each hour or day, and what was kept apart."""
    if not read(queries.COUNTING, id=id):
        raise _no_ad(id)
    zone = _rules().zone
    found = (stats.daily if granularity == "day" else stats.hourly)(
        id, begins, ends, clock.now(), zone
    )
    body = {
        "ad_id": id,
        "granularity": granularity,
        "timezone": zone.key,
        "computed_through": found.computed_through,
        "total": counts_out(found.total),
        "items": [bucket_out(bucket) for bucket in found.buckets],
    }
    return answer(body)
