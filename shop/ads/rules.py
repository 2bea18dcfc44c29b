"""By what rule events count: keys that stand for visitors and events, and signed tokens.

All of them are keyed with what the shop's secret key makes, so that nobody else can tell who or
what is behind a key, and none can be made elsewhere.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import blake2b
from zoneinfo import ZoneInfo

from shop.ads.models import Kind

#: How late an event may be told, and how far the clock of who tells it may be ahead.
LATEST, EARLIEST = timedelta(hours=24), timedelta(minutes=5)
#: Events of one request.
MOST_EVENTS = 500
_LENGTH = 12
_MAC = 12
_NONCE = 8


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of a shop: `repeat_seconds` is the window of which one click of a visitor counts
    (0: all do), `token_seconds` how long a token is good, `zone` whose days are summed up.
    """

    secret: str = field(repr=False)
    repeat_seconds: int
    tokens_required: bool
    token_seconds: int
    zone: ZoneInfo

    def event_key(self, kind: Kind, ad_id: int, event_id: str) -> bytes:
        """Stands for an event by the id that its sender gave it."""
        return _digest(self.secret, "event", f"{kind:d} {ad_id} {event_id}")

    def claim(self, ad_id: int, visitor: str, moment: datetime) -> bytes | None:
        """Stands for a visitor of an ad in the window of this moment; None where all clicks count.

        Windows lie on a fixed grid from 1970 on. A claim begins with its window: so new ones are
        neighbours in their index. The key is another each day.
        """
        if not self.repeat_seconds:
            return None
        window, purpose = _window(moment, self.repeat_seconds)
        digest = _digest(self.secret, purpose, f"{ad_id} {window} {visitor}")
        return window.to_bytes(4, "big") + digest[: _LENGTH - 4]

    def token(self, ad_id: int, moment: datetime) -> str:
        """A token that says: this ad was shown at about this moment, by this shop."""
        ends = int(moment.timestamp()) + self.token_seconds
        body = ends.to_bytes(4, "big") + secrets.token_bytes(_NONCE)
        return base64.urlsafe_b64encode(body + self._mac(ad_id, body)).decode()

    def token_key(self, ad_id: int, token: str, moment: datetime) -> bytes | None:
        """Stands for a token in use; None if it is not of this ad and this shop, or is over."""
        try:
            raw = base64.b64decode(token, altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            return None
        if len(raw) != 4 + _NONCE + _MAC:
            return None
        body, mac = raw[:-_MAC], raw[-_MAC:]
        if not hmac.compare_digest(mac, self._mac(ad_id, body)):
            return None
        ends = datetime.fromtimestamp(int.from_bytes(body[:4], "big"), UTC)
        return body if moment <= ends else None

    def _mac(self, ad_id: int, body: bytes) -> bytes:
        key = _key_for(self.secret, "token")
        return blake2b(f"{ad_id} ".encode() + body, key=key, digest_size=_MAC).digest()


@lru_cache(maxsize=1024)
def _window(moment: datetime, seconds: int) -> tuple[int, str]:
    """The number of a window, and what the key of its day is called."""
    window = int(moment.timestamp()) // seconds
    return window, f"visitor {window * seconds // 86_400}"


@lru_cache(maxsize=64)
def _key_for(secret: str, purpose: str) -> bytes:
    return hmac.digest(secret.encode(), f"ads {purpose}".encode(), "sha256")


@lru_cache(maxsize=64)
def _begun(secret: str, purpose: str) -> blake2b:
    return blake2b(key=_key_for(secret, purpose), digest_size=_LENGTH)


def _digest(secret: str, purpose: str, text: str) -> bytes:
    # A copy of one that has its key saves half of the work.
    digest = _begun(secret, purpose).copy()
    digest.update(text.encode())
    return digest.digest()
