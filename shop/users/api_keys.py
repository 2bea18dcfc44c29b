"""API keys for machines: scoped, shown once, kept as a digest.

A key reads `shop_<lookup>_<secret>`: the first part finds the row, the second proves the right.
"""

from __future__ import annotations

import hmac
import re
import secrets
from datetime import datetime, timedelta

from sqlalchemy import Connection, or_, update
from sqlalchemy.orm import Session

from shop import clock
from shop.errors import NotFound
from shop.marks import changed
from shop.users.models import ApiKey, SecurityEvent
from shop.users.tokens import digest, new_secret

_FORM = re.compile(r"shop_([a-z0-9]{12})_([A-Za-z0-9_-]{43})\Z", re.ASCII)
_LOOKUP = "abcdefghijklmnopqrstuvwxyz0123456789"
#: How exact `last_used_at` is: a machine calls often, and each note of it is a write.
NOTED_EVERY = timedelta(minutes=1)


def create_key(
    session: Session,
    *,
    name: str,
    scopes: list[str],
    expires_at: datetime | None,
    created_by: int | None,
) -> tuple[ApiKey, str]:
    """A new key, and the text of it, which is not stored."""
    lookup = "".join(secrets.choice(_LOOKUP) for _ in range(12))
    secret = new_secret()
    key = ApiKey(
        name=name, lookup=lookup, secret_hash=digest(secret), scopes=sorted(set(scopes)),
        expires_at=expires_at, created_by=created_by,
    )  # fmt: skip
    session.add(key)
    session.flush()
    _record(session, "api_key_created", key, created_by)
    return key, f"shop_{lookup}_{secret}"


def revoke_key(session: Session, key_id: int, revoked_by: int | None) -> None:
    """End a key for good. Raises NotFound: there is none, or it is revoked already."""
    key = session.get(ApiKey, key_id, with_for_update=True)
    if key is None or key.revoked_at is not None:
        raise NotFound(f"There is no API key {key_id}.")
    key.revoked_at = clock.now()
    _record(session, "api_key_revoked", key, revoked_by)
    changed(session, "callers")


def _record(session: Session, kind: str, key: ApiKey, user_id: int | None) -> None:
    detail = {"api_key": key.id, "name": key.name, "scopes": key.scopes}
    session.add(SecurityEvent(kind=kind, user_id=user_id, detail=detail))


def parts(text: str) -> tuple[str, str] | None:
    """Lookup and secret of a key; None when the text is none."""
    match = _FORM.match(text)
    return None if match is None else (match[1], match[2])


def is_secret(secret: str, secret_hash: str) -> bool:
    """Whether it is the secret behind the digest, in constant time."""
    return hmac.compare_digest(digest(secret), secret_hash)


def note_use(connection: Connection, key_id: int, before: datetime) -> None:
    """Note that a key was used now, unless somebody noted it since `before`."""
    unnoted = or_(ApiKey.last_used_at.is_(None), ApiKey.last_used_at < before)
    connection.execute(
        update(ApiKey).where(ApiKey.id == key_id, unnoted).values(last_used_at=clock.now())
    )
