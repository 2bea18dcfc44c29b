"""Whatever is in a file: clear errors, bounded memory, and the good rows get in."""

from __future__ import annotations

import io
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from shop.transfers.reading import entries
from shop.transfers.records import LONGEST
from tests import factories
from tests.transfers.checks import (
    CSV,
    HEADER,
    IMPORTS,
    Headers,
    cells,
    csv_file,
    errors,
    imported,
    json_lines,
)
from tests.web.checks import assert_problem


def row(**more: Any) -> bytes:
    """A row of CSV with something wrong in it."""
    return csv_file(cells("bad", "BAD", **more)).splitlines(keepends=True)[1]


GOOD = csv_file(cells("", "GOOD", name="good")).splitlines(keepends=True)[1]
SAME = csv_file(cells("same", "SAME", name="good")).splitlines(keepends=True)[1]
LAST = csv_file(cells("last", "LAST")).splitlines(keepends=True)[1]
HEAD = HEADER.encode() + b"\r\n"

#: Bad rows between two good ones: the line that is named, and a part of the message.
BAD_CSV: dict[str, tuple[bytes, int, str]] = {
    "NUL": (GOOD.replace(b"good", b"b\x00d").replace(b"GOOD", b"B"), 3, "form"),
    "no UTF-8": (GOOD.replace(b"good", b"b\xff").replace(b"GOOD", b"B"), 3, "UTF-8"),
    "surrogate": (GOOD.replace(b"good", b"b\xed\xa0\x80").replace(b"GOOD", b"B"), 3, "UTF-8"),
    "a line of 10 MB": (b"x" * 10_000_000 + b"\r\n", 3, "1 MiB"),
    "a cell of 500 kB": (b'bad,"' + b"x" * 500_000 + b'"\r\n', 3, "Not CSV"),
    "too few cells": (b"bad,x\r\n", 3, "cells"),
    "a million cells": (b"," * 1_000_000 + b"\r\n", 3, "cells"),
    "a quote too many": (b'bad,"x"y,\r\n', 3, "Not CSV"),
    "a lone CR": (b"bad,x\ry\r\n", 3, "Not CSV"),
    "a number of 5,000 digits": (GOOD.replace(b"19900", b"9" * 5000), 3, "whole number"),
    "1e9": (GOOD.replace(b"19900", b"1e9"), 3, "whole number"),
    "+5": (GOOD.replace(b"19900", b"+5"), 3, "whole number"),
    "arabic digits": (GOOD.replace(b"19900", "١".encode()), 3, "whole number"),
    "deep JSON": (row(attributes="[" * 3000), 3, "JSON"),
    "JSON twice": (row(attributes='{"a":"1","a":"2"}'), 3, "JSON"),
    "150 variants": (b"".join(csv_file(*[cells("b", f"B-{n}") for n in range(150)])
                     .splitlines(keepends=True)[1:]), 3, "Length"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_CSV)
def test_a_bad_row_of_csv_fails_alone(
    app: Flask, client: FlaskClient, staff: Headers, name: str
) -> None:
    bad, line, message = BAD_CSV[name]

    done = imported(app, client, staff, HEAD + GOOD + bad + LAST, CSV)

    assert (done["status"], done["created"], done["failed"]) == ("completed", 2, 1), done
    found = errors(client, staff, done["id"])
    assert found
    assert all(it[0] >= line for it in found)
    assert any(message in it[2] for it in found), found


BAD_LINES: dict[str, bytes] = {
    "NUL": b'{"name": "a\x00b"}', "escaped NUL": b'{"name": "a\\u0000b", "variants": []}',
    "no UTF-8": b'{"name": "\xff"}', "10 MB": b'{"name": "' + b"x" * 10_000_000 + b'"}',
    "no object": b"[1]", "null": b"null", "no JSON": b"{", "two": b"{}{}",
    "twice": b'{"name": "a", "name": "b"}', "deep": b"[" * 100_000, "NaN": b'{"name": NaN}',
    "BOM": b"\xef\xbb\xbf{}", "a path": b'{"file": "../../etc/passwd"}',
    "10,000 keys": b"{" + b",".join(b'"k%d":1' % n for n in range(10_000)) + b"}",
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_LINES)
def test_a_bad_line_of_json_fails_alone(
    app: Flask, client: FlaskClient, staff: Headers, name: str
) -> None:
    good, last = json_lines(factories.product_body()), json_lines(factories.product_body())

    done = imported(app, client, staff, good + BAD_LINES[name] + b"\r\n\r\n" + last)

    assert (done["status"], done["created"], done["failed"]) == ("completed", 2, 1)
    found = errors(client, staff, done["id"])
    assert {line for line, _, _ in found} == {2}
    assert 1 <= len(found) <= 20


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_spellings_of_the_same_file_are_the_same(
    app: Flask, client: FlaskClient, staff: Headers, bom: bytes, end: bytes
) -> None:
    file = bom + HEAD + GOOD + LAST
    file = file.replace(b"\r\n", end) if end else file[:-2]

    assert imported(app, client, staff, file, CSV)["created"] == 2


def test_a_missing_quote_loses_no_row_in_silence(
    app: Flask, client: FlaskClient, staff: Headers
) -> None:
    rows = [cells(f"oak-{n}", f"OAK-{n}") for n in range(20)]
    lines = csv_file(*rows).splitlines(keepends=True)
    lines[11] = lines[11].replace(b"Oak table", b'"Oak table')

    done = imported(app, client, staff, b"".join(lines), CSV)

    # The product before it might have been its own.
    assert done["created"] == 9
    (first, why), (second, also) = [(it[0], it[2]) for it in errors(client, staff, done["id"])]
    assert (first, second) == (12, 11)
    assert "Nothing was read from line 12 to 21." in why
    assert also == "Not made: line 12 cannot be read."


def test_a_product_of_which_a_row_cannot_be_read_is_not_made_by_halves(
    app: Flask, client: FlaskClient, staff: Headers
) -> None:
    lines = csv_file(*[cells("oak", f"OAK-{n}") for n in range(3)]).splitlines(keepends=True)
    lines[2] = b'oak,"x"y\r\n'

    done = imported(app, client, staff, b"".join(lines), CSV)

    assert (done["created"], done["failed"]) == (0, 1)
    assert [line for line, _, _ in errors(client, staff, done["id"])] == [3, 2]


HEADERS: dict[str, tuple[bytes, tuple[str, ...]]] = {
    "empty": (b"", ()),
    "blank": (b"\r\n\r\n", ()),
    "BOM alone": (b"\xef\xbb\xbf", ()),
    "UTF-16": (HEADER.encode("utf-16"), ("",)),
    "unknown": (HEAD.replace(b"slug", b"glug"), ("/0",)),
    "twice": (HEAD.replace(b"slug", b"name"), ("/1",)),
    "formula": (HEAD.replace(b"slug", b"=cmd()"), ("/0",)),
    "missing": (HEAD.replace(b",sku", b""), ("",)),
    "no header": (GOOD, ()),
    "semicolons": (HEAD.replace(b",", b";"), ("/0", "", "", "", "", "")),
    "million columns": (b"a," * 500_000 + b"\n", ()),
    "10 MB": (b"x" * 10_000_000, ("",)),
    "open quote": (b'"' + HEAD, ("",)),
}  # fmt: skip


@pytest.mark.parametrize("name", HEADERS)
def test_a_wrong_header_is_refused_at_once(
    app: Flask, client: FlaskClient, staff: Headers, name: str
) -> None:
    file, _pointers = HEADERS[name]
    folder = app.extensions["transfers"].path("")
    before = set(folder.iterdir()) if folder.exists() else set()

    answer = client.post(IMPORTS, data=file, headers=staff, content_type=CSV)

    named = [fault["pointer"] for fault in answer.get_json().get("errors", [])]
    body = assert_problem(answer, "validation", *named)
    assert len(answer.data) < 5000
    assert body["detail"]
    assert set(folder.iterdir()) == before


@pytest.mark.parametrize(
    ("kind", "headers", "slug"),
    [
        ("application/json", {}, "unsupported-media-type"),
        ("text/html", {}, "unsupported-media-type"),
        ("text/csv; charset=utf-16", {}, "unsupported-media-type"),
        ("multipart/form-data; boundary=x", {}, "unsupported-media-type"),
        (CSV, {"Content-Encoding": "gzip"}, "unsupported-media-type"),
    ],
)
def test_what_is_no_file_of_products_is_refused(
    client: FlaskClient, staff: Headers, kind: str, headers: Headers, slug: str
) -> None:
    answer = client.post(IMPORTS, data=HEAD + GOOD, headers=staff | headers, content_type=kind)

    assert_problem(answer, slug)


def test_a_file_over_the_limit_is_refused_and_not_kept(
    app: Flask, client: FlaskClient, staff: Headers, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = app.extensions["transfers"]
    monkeypatch.setattr(folder, "most", 2**21)
    before = set(folder.path("").iterdir()) if folder.path("").exists() else set()
    rows = HEAD + GOOD

    fits = client.post(
        IMPORTS, data=rows + b"\n" * (2**21 - len(rows)), headers=staff, content_type=CSV
    )
    announced = client.post(IMPORTS, data=b"x" * (2**21 + 1), headers=staff, content_type=CSV)
    chunked: Any = client.post(
        IMPORTS, input_stream=io.BytesIO(rows + b"\n" * 2**21), headers=staff, content_type=CSV,
        environ_overrides={"wsgi.input_terminated": True, "CONTENT_LENGTH": ""},
    )  # fmt: skip

    # Larger than a JSON body may be.
    assert fits.status_code == 202
    assert_problem(announced, "too-large")
    assert_problem(chunked, "too-large")
    assert len(set(folder.path("").iterdir()) - before) == 1


@pytest.mark.parametrize("name", ["../../x", "a\x00b", "x" * 300, "a\r\nSet-Cookie: b", "/etc/x"])
def test_a_name_that_a_client_gives_its_file_is_not_looked_at(
    app: Flask, client: FlaskClient, staff: Headers, name: str
) -> None:
    """IN-25."""
    said = name.encode().replace(b"\x00", b"%00").replace(b"\r\n", b"%0d%0a").decode()
    headers = staff | {"Content-Disposition": f'attachment; filename="{said}"'}
    path = app.extensions["transfers"].path("")
    before = set(path.rglob("*")) if path.exists() else set()

    answer = client.post(IMPORTS, data=HEAD + GOOD, headers=headers, content_type=CSV)

    assert answer.status_code == 202
    assert client.post(f"{IMPORTS}?file={said}", headers=staff).status_code == 422
    (new,) = set(path.rglob("*")) - before
    assert new.parent == path
    assert len(new.stem) == 32
    assert new.stat().st_mode & 0o777 == 0o600


ENDLESS: dict[str, tuple[str, bytes]] = {
    "one line": ("csv", HEAD + b"x" * 40_000_000),
    "one line of JSON": ("jsonl", b"[" * 40_000_000),
    "one quoted cell": ("csv", HEAD + b'bad,"' + b"x\n" * 200_000),
    "one product": ("csv", HEAD + SAME * 60_000),
    "one product with large cells": (
        "csv", HEAD + SAME.replace(b"good", b"x" * 100_000) * 400
    ),
    "commas": ("csv", HEAD + (b"," * 900_000 + b"\n") * 40),
}  # fmt: skip


@pytest.mark.parametrize("name", ENDLESS)
def test_reading_takes_bounded_memory(tmp_path: Path, name: str) -> None:
    format, content = ENDLESS[name]
    path = tmp_path / "file"
    path.write_bytes(content)
    tracemalloc.start()

    with path.open("rb") as file:
        found = sum(entry.rows for entry in entries(file, format, 0, 0))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert found
    assert most < 30 * LONGEST
