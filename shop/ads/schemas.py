"""Shapes of ads, of what is told of them, and of what came of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from typing import Any

from marshmallow import EXCLUDE, ValidationError, fields, validate

from shop.ads.models import COUNTED, STATUSES
from shop.ads.rules import MOST_EVENTS
from shop.ads.stats import Bucket
from shop.ads.targets import WebAddress
from shop.web.fields import LARGEST_ID, Choice, Code, Instant, Integer, Line, StrictSchema
from shop.web.pagination import PageQuery

_PLACEMENT = r"^[a-z0-9][a-z0-9_-]*$"
#: What a sender calls its events and visitors.
_NAME = r"^[!-~]+$"


class AdIn(StrictSchema):
    """A new ad."""

    name = Line(200, required=True)
    placement = Code(
        _PLACEMENT, 64, load_default="default",
        metadata={"description": "Where the shop front shows it, such as `home-top`."},
    )  # fmt: skip
    status = Choice(STATUSES, load_default="active")
    image_url = WebAddress(allow_none=True, load_default=None)
    product_id = Integer(1, LARGEST_ID, allow_none=True, load_default=None)
    target_url = WebAddress(
        required=True,
        metadata={"description": "Where a click leads: http or https, the host in ASCII."},
    )
    starts_at = Instant(allow_none=True, load_default=None)
    ends_at = Instant(
        allow_none=True, load_default=None, metadata={"description": "Not shown from then on."}
    )


class AdPatch(StrictSchema):
    """Changes of an ad."""

    name = Line(200)
    placement = Code(_PLACEMENT, 64)
    status = Choice(STATUSES)
    image_url = WebAddress(allow_none=True)
    product_id = Integer(1, LARGEST_ID, allow_none=True)
    target_url = WebAddress()
    starts_at = Instant(allow_none=True)
    ends_at = Instant(allow_none=True)


class AdQuery(PageQuery):
    """Which ads to list."""

    placement = Code(_PLACEMENT, 64)
    status = Choice(STATUSES, metadata={"description": "For staff; everybody else sees open ads."})
    tokens = Choice(
        ("true", "false"), load_default="false",
        metadata={"description": "Whether each ad comes with a `token` for its click."},
    )  # fmt: skip


class AdOut(StrictSchema):
    """An ad."""

    id = fields.Integer(required=True)
    name = fields.String(required=True)
    placement = fields.String(required=True)
    status = Choice(STATUSES, required=True)
    image_url = fields.String(required=True, allow_none=True)
    product_id = fields.Integer(required=True, allow_none=True)
    target_url = fields.String(required=True)
    starts_at = fields.DateTime(required=True, allow_none=True)
    ends_at = fields.DateTime(required=True, allow_none=True)
    version = fields.Integer(required=True)
    created_at = fields.DateTime(required=True)
    updated_at = fields.DateTime(required=True)
    token = fields.String(
        metadata={"description": "With `tokens=true`: show it with the click, once."}
    )


class AdPage(StrictSchema):
    """A page of ads."""

    items = fields.List(fields.Nested(AdOut), required=True)
    next_cursor = fields.String(required=True, allow_none=True)


class ImpressionIn(StrictSchema):
    """That an ad was shown."""

    id = Code(_NAME, 64, metadata={"description": "The sender's name of it: counted once."})
    at = Instant(metadata={"description": "When; now if left out. At most a day ago."})
    visitor = Code(
        _NAME, 64,
        metadata={"description": "Who saw it, by a pseudonym. Else network address and agent."},
    )  # fmt: skip


class ClickIn(ImpressionIn):
    """That an ad was clicked."""

    token = Code(_NAME, 200, metadata={"description": "The one that the ad was shown with."})


class ImpressionOfMany(ImpressionIn):
    """One of several."""

    id = Code(_NAME, 64, required=True)


class ClickOfMany(ClickIn):
    """One of several."""

    id = Code(_NAME, 64, required=True)


class _OneOrMany(StrictSchema):
    """One event as the body, or several as `events` and nothing else."""

    class Meta(StrictSchema.Meta):
        document = {"if": {"required": ["events"]}, "then": {"maxProperties": 1}}  # noqa: RUF012


_LIST = validate.Length(1, MOST_EVENTS)


class ImpressionsIn(ImpressionIn, _OneOrMany):
    """An impression, or up to 500 of them as `events`. An empty body is one, now."""

    events = fields.List(fields.Nested(ImpressionOfMany), validate=_LIST)


class ClicksIn(ClickIn, _OneOrMany):
    """A click, or up to 500 of them as `events`. An empty body is one, now."""

    events = fields.List(fields.Nested(ClickOfMany), validate=_LIST)


def events_of(body: dict[str, Any]) -> list[dict[str, Any]] | None:
    """The events of a loaded body that has several; None when it is one.

    Raises:
        ValidationError: it has several and says something of one.
    """
    if "events" in body and len(body) > 1:
        # Not a hook of the schema: bodies of schemas without any are read the short way.
        raise ValidationError({"events": ["Send these, or one event, not both."]})
    return body.get("events")


class ClickQuery(StrictSchema):
    """What a link may say of the click; anything else that is added to it is ignored."""

    class Meta:
        unknown = EXCLUDE

    token = fields.String()


class CountsOut(StrictSchema):
    """How often what happened."""

    impressions = fields.Integer(required=True)
    clicks = fields.Integer(required=True)
    ctr = fields.Float(
        required=True, allow_none=True,
        metadata={"description": "Clicks for each impression, to 6 places; null without any."},
    )  # fmt: skip
    kept_apart = fields.Dict(
        keys=fields.String(), values=fields.Integer(), required=True,
        metadata={"description": "What does not count, by why, such as `clicks_repeat`."},
    )  # fmt: skip


class When(Instant):
    """A time, or a date: its beginning in the zone of the shop."""

    _DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> Any:
        if isinstance(value, str) and self._DATE.fullmatch(value):
            try:
                return date.fromisoformat(value)
            except ValueError as error:
                raise self.make_error("invalid", input=value, obj_type="date") from error
        return super()._deserialize(value, attr, data, **kwargs)


class StatsQuery(StrictSchema):
    """Of which time, and by what: at most 31 days by the hour, 400 by the day."""

    granularity = Choice(("hour", "day"), load_default="hour")
    begins = When(
        data_key="from",
        metadata={"description": "A time, or a date of the shop's zone. Else a day, or 30, ago."},
    )
    ends = When(
        data_key="to",
        metadata={"description": "The first time, or date, that is not wanted. Else now."},
    )


class BucketOut(CountsOut):
    """An hour of UTC, or a local day: `from` its first instant, `to` that of the next one."""

    class Meta(StrictSchema.Meta):
        include = {  # noqa: RUF012
            "from": fields.DateTime(required=True),
            "to": fields.DateTime(required=True),
        }

    day = fields.Date(metadata={"description": "By the day: the local date."})
    provisional = fields.Boolean(
        required=True, metadata={"description": "Whether it may still change: late events."}
    )


class StatsOut(StrictSchema):
    """What came of an ad."""

    ad_id = fields.Integer(required=True)
    granularity = fields.String(required=True)
    timezone = fields.String(required=True)
    computed_through = fields.DateTime(
        required=True, allow_none=True,
        metadata={"description": "What happened before is summed up, but for late events."},
    )  # fmt: skip
    total = fields.Nested(CountsOut, required=True)
    items = fields.List(fields.Nested(BucketOut), required=True)


#: Names of what is kept apart.
APART = tuple(name for name in COUNTED if "_" in name)


def counts_out(counts: Mapping[str, int]) -> dict[str, Any]:
    """`CountsOut`, ready for JSON."""
    impressions, clicks = counts["impressions"], counts["clicks"]
    return {
        "impressions": impressions,
        "clicks": clicks,
        "ctr": round(clicks / impressions, 6) if impressions else None,
        "kept_apart": {name: counts[name] for name in APART},
    }


def bucket_out(bucket: Bucket) -> dict[str, Any]:
    """`BucketOut`, ready for JSON."""
    shown: dict[str, Any] = {"from": bucket.begins, "to": bucket.ends}
    if bucket.day is not None:
        shown["day"] = bucket.day
    return shown | counts_out(bucket.counts) | {"provisional": bucket.provisional}


def ad_out(ad: Any) -> dict[str, Any]:
    """`AdOut` of an object or a row, ready for JSON."""
    return {name: getattr(ad, name) for name in _SHOWN}


_SHOWN = tuple(name for name in AdOut._declared_fields if name != "token")
