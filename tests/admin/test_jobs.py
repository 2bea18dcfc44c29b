"""The doors on jobs: what is due when, running by hand, switching off."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import insert
from sqlalchemy.orm import Session

from shop import clock
from shop.jobs import operations
from shop.jobs.models import JobRun
from shop.jobs.slots import slot_name
from tests.conftest import create_shop
from tests.jobs.running import effects, runner, runs, settle
from tests.web.checks import assert_problem

JOBS = "/api/v1/jobs"
Headers = dict[str, str]


def job(client: FlaskClient, who: Headers, name: str) -> dict[str, Any]:
    answer = client.get(JOBS, headers=who)
    assert answer.status_code == 200, answer.text
    (found,) = [item for item in answer.get_json()["items"] if item["name"] == name]
    return dict(found)


def shop_runner(app: Flask) -> Any:
    return runner(app, *app.extensions["jobs"].values())


def test_staff_see_every_job_with_its_plan_and_its_last_run(
    app: Flask, client: FlaskClient, staff: Headers
) -> None:
    new = job(client, staff, "publish")
    app.test_cli_runner().invoke(args=["jobs", "run", "publish"])
    ran = job(client, staff, "publish")

    names = [item["name"] for item in client.get(JOBS, headers=staff).get_json()["items"]]
    assert names == list(app.extensions["jobs"])
    next_slot = datetime.fromisoformat(new.pop("next_slot"))
    assert timedelta(0) < next_slot - clock.now() <= timedelta(minutes=1)
    assert next_slot.second == 0
    assert new == {
        "name": "publish", "trigger": "every 1 min", "timezone": "UTC", "catch_up": "latest",
        "enabled": True, "running": False, "last_run": None,
    }  # fmt: skip
    last = ran["last_run"]
    assert (last["status"], last["ordered_by"], last["attempts"]) == ("done", "cli", 1)


def test_a_daily_job_says_its_zone_and_is_due_at_its_local_time(
    client: FlaskClient, staff: Headers
) -> None:
    digest = job(client, staff, "digest")

    assert (digest["trigger"], digest["timezone"]) == ("daily at 14:00 UTC", "UTC")
    assert digest["next_slot"].endswith("T14:00:00Z")


def test_an_administrator_orders_a_run_and_the_scheduler_does_it(
    app: Flask, client: FlaskClient, session: Session, admin: Headers
) -> None:
    me = client.get("/api/v1/users/me", headers=admin).get_json()["id"]

    first = client.post(f"{JOBS}/reconcile/run", headers=admin)
    second = client.post(f"{JOBS}/reconcile/run", headers=admin)

    assert (first.status_code, second.status_code) == (202, 202)
    assert first.get_json() == second.get_json(), "a double click is one run"
    assert first.get_json()["status"] == "waiting"
    assert first.get_json()["reason"] == "ordered"
    settle(shop_runner(app))
    (done,) = client.get(f"{JOBS}/reconcile/runs", headers=admin).get_json()["items"]
    assert (done["status"], done["ordered_by"]) == ("done", f"users/{me}")
    assert done["slot"] == first.get_json()["slot"]
    third = client.post(f"{JOBS}/reconcile/run", headers=admin)
    assert third.status_code == 202
    assert third.get_json()["slot"] != done["slot"]


def test_a_job_that_runs_is_shown_so_and_not_run_again(
    client: FlaskClient, session: Session, admin: Headers
) -> None:
    operations.claim(session, "prune", slot_name(clock.now()), "somebody")
    session.commit()

    answer = client.post(f"{JOBS}/prune/run", headers=admin)

    assert_problem(answer, "conflict")
    assert job(client, admin, "prune")["running"] is True


def test_a_job_is_switched_off_and_on(
    app: Flask, client: FlaskClient, session: Session, admin: Headers
) -> None:
    off = client.patch(f"{JOBS}/publish", json={"enabled": False}, headers=admin)
    assert off.status_code == 200
    assert off.get_json()["enabled"] is False
    assert job(client, admin, "publish")["enabled"] is False
    client.post(f"{JOBS}/publish/run", headers=admin)
    settle(shop_runner(app))
    assert [run.status for run in runs(session)] == ["done"], "by hand it runs all the same"

    on = client.patch(f"{JOBS}/publish", json={"enabled": True}, headers=admin)

    assert on.get_json()["enabled"] is True


def test_runs_are_listed_page_by_page_the_newest_first(
    client: FlaskClient, session: Session, staff: Headers
) -> None:
    now = clock.now()
    slots = [slot_name(now - timedelta(minutes=number)) for number in range(5)]
    same = {"job": "publish", "status": "done", "attempts": 1, "owner": "", "heartbeat_ms": 0,
            "started_at": now, "finished_at": now}  # fmt: skip
    session.execute(insert(JobRun), [same | {"slot": slot} for slot in slots])
    session.execute(insert(JobRun), [same | {"slot": slots[0], "job": "prune"}])
    session.commit()

    found, where = [], f"{JOBS}/publish/runs?limit=2"
    while where:
        body = client.get(where, headers=staff).get_json()
        found += [item["slot"] for item in body["items"]]
        following = body["next_cursor"]
        where = f"{JOBS}/publish/runs?limit=2&cursor={following}" if following else ""

    assert found == slots


def test_a_page_of_runs_links_to_the_next_one(
    client: FlaskClient, session: Session, staff: Headers
) -> None:
    for minutes in range(2):
        slot = slot_name(clock.now() - timedelta(minutes=minutes))
        operations.claim(session, "publish", slot, "me")
    session.commit()

    link = client.get(f"{JOBS}/publish/runs?limit=1", headers=staff).headers["Link"]

    assert dict(parse_qsl(urlsplit(link.split(">")[0][1:]).query))["limit"] == "1"


@pytest.mark.parametrize(
    ("method", "path"),
    [("get", "nothing/runs"), ("post", "nothing/run"), ("patch", "nothing")],
)
def test_a_job_that_is_not_there_is_not_found(
    client: FlaskClient, admin: Headers, method: str, path: str
) -> None:
    body = {"json": {"enabled": True}} if method == "patch" else {}

    answer = getattr(client, method)(f"{JOBS}/{path}", headers=admin, **body)

    assert "publish" in assert_problem(answer, "not-found")["detail"]


@pytest.mark.parametrize(
    "body", [{}, {"enabled": "yes"}, {"enabled": 1}, {"enabled": None}, {"enabled": True, "x": 1}]
)
def test_what_is_no_switch_is_refused(client: FlaskClient, admin: Headers, body: Any) -> None:
    answer = client.patch(f"{JOBS}/publish", json=body, headers=admin)

    assert answer.status_code == 422


def test_staff_may_look_and_only_administrators_may_act(
    client: FlaskClient, session: Session, staff: Headers, customer: Headers
) -> None:
    assert_problem(client.get(JOBS, headers=customer), "forbidden")
    assert_problem(client.get(JOBS), "unauthenticated")
    assert client.get(f"{JOBS}/publish/runs", headers=staff).status_code == 200
    assert_problem(client.post(f"{JOBS}/publish/run", headers=staff), "forbidden")
    off = client.patch(f"{JOBS}/publish", json={"enabled": False}, headers=staff)
    assert_problem(off, "forbidden")
    assert runs(session) == []
    assert len(effects(session)) == 2


@pytest.mark.parametrize("cursor", ["x", "WyJqb2JzOnJ1bnMiLDFd"])
def test_a_cursor_that_is_none_is_refused(client: FlaskClient, staff: Headers, cursor: str) -> None:
    answer = client.get(f"{JOBS}/publish/runs?cursor={cursor}", headers=staff)

    assert_problem(answer, "validation", "/cursor")


def test_jobs_are_due_in_the_zone_of_the_shop(tmp_path: Any) -> None:
    from tests import factories

    app = create_shop(tmp_path, timezone="Australia/Lord_Howe")
    digest = job(app.test_client(), factories.sign_in(app, role="staff"), "digest")

    assert digest["trigger"] == "daily at 14:00 Australia/Lord_Howe"
    assert digest["next_slot"][11:] in ("03:00:00Z", "03:30:00Z")
