"""Where ads may lead."""

from __future__ import annotations

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from shop.ads.models import Ad
from tests.ads.checks import ADS, TARGET, Headers, create_ad
from tests.web.checks import assert_problem

FINE = (
    "https://example.com", "http://example.com/", "https://example.com:8443/a/b;c=1?x=1&y=%C3%A9#z",
    "https://xn--bcher-kva.example/", "https://192.0.2.7/x", "http://localhost:3000/sale",
    "https://a-b.example/@user/~x!$'()*+,", "HTTPS://Example.com/A", "https://example.com?q",
)[:7]  # fmt: skip
WRONG = (
    "", "javascript:alert(1)", "JaVaScRiPt:alert(1)", "data:text/html,<script>alert(1)</script>",
    "vbscript:x", "file:///etc/passwd", "ftp://example.com/", "//evil.example", "\\\\evil.example",
    "/\\evil.example", "https:\\\\evil.example", "https:/evil.example", "https:evil.example",
    "https:///evil.example", "https://", "http://?", "example.com", "/relative", " https://a.example",
    "https://example.com\r\nSet-Cookie: a=b", "https://example.com/\nx", "https://exa\tmple.com",
    "https://example.com/\x00", "https://example.com/ x", "https://example.com/\u2028",
    "https://user@evil.example", "https://good.example:pass@evil.example", "https://@evil.example",
    "https://good.example\\@evil.example", "https://good.example\\.evil.example",
    "https://g\u043e\u043egle.com", "https://b\u00fccher.example", "https://\uff45vil.example",
    "https://good\u3002evil.example", "https://good.example\uff0fevil.example",
    "https://xn--.example", "https://xn--a.example", "https://xn--\u00fc.example",
    "https://-a.example", "https://a-.example", "https://a..example", "https://.example",
    "https://a.example:0/", "https://a.example:65536/", "https://a.example:x/", "https://a.example:/",
    "https://[::1]/", "https://%65vil.example/", "https://a.example/%zz", "https://a.example/<b>",
    "https://a.example/" + "a" * 2000, "https://" + "a" * 64 + ".example",
    "https://" + ".".join(["a" * 60] * 5) + "/", "view-source:https://a.example", "h\u0442tps://a.example",
)  # fmt: skip


@pytest.mark.parametrize("engine_name", ["sqlite"], indirect=True)
@pytest.mark.parametrize("url", WRONG)
def test_an_ad_never_leads_to_what_is_not_a_web_address(
    client: FlaskClient, staff: Headers, session: Session, url: str
) -> None:
    """IN-23."""
    body = {"name": "Oak", "target_url": url}
    assert_problem(client.post(ADS, json=body, headers=staff), "validation", "/target_url")
    image = {"name": "Oak", "target_url": TARGET, "image_url": url}
    assert_problem(client.post(ADS, json=image, headers=staff), "validation", "/image_url")

    ad = create_ad(client, staff)
    changed = client.patch(f"{ADS}/{ad}", json={"target_url": url}, headers=staff)
    assert_problem(changed, "validation", "/target_url")
    assert session.scalar(select(func.count()).select_from(Ad)) == 1


@pytest.mark.parametrize("engine_name", ["sqlite"], indirect=True)
@pytest.mark.parametrize("url", FINE)
def test_a_click_leads_to_the_address_of_the_ad_letter_for_letter(
    client: FlaskClient, staff: Headers, url: str
) -> None:
    """IN-23."""
    ad = create_ad(client, staff, target_url=url, image_url=url)

    answer = client.get(f"{ADS}/{ad}/click")

    assert (answer.status_code, answer.headers["Location"]) == (302, url)
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.data == b""


def test_a_click_leads_nowhere_else_whatever_is_added_to_it(
    app: Flask, client: FlaskClient, staff: Headers
) -> None:
    """IN-23."""
    ad = create_ad(client, staff)
    for query in (
        "url=https://evil.example", "next=//evil.example", "target_url=https://evil.example",
        "redirect=javascript:alert(1)", "token=x&url=%0d%0aLocation:%20https://evil.example",
    ):  # fmt: skip
        headers = {"Host": "evil.example", "X-Forwarded-Host": "evil.example"}
        answer = client.get(f"{ADS}/{ad}/click?{query}", headers=headers)
        assert answer.status_code == 302
        assert answer.headers.getlist("Location") == [TARGET]
    assert_problem(client.get(f"{ADS}/{ad + 1}/click"), "not-found")
