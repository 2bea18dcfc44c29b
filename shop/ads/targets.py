"""Where ads may lead: web addresses that read the same to people, browsers and this shop."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

from marshmallow import ValidationError

from shop.ads.models import LONGEST_URL
from shop.web.fields import Code, Form

#: Scheme, host, port, and the rest in the characters of RFC 3986. Not a browser's reading of an
#: address: what browsers forgive (backslashes, tabs, `https:/x`, users before the host) has no form
#: here. In each part neighbouring repetitions have no character in common.
_ADDRESS = (
    r"^https?://[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63}){0,20}(:[0-9]{1,5})?"
    r"([/?#]([!#$&'()*,./0-9+:;=?@A-Z_a-z~-]|%[0-9A-Fa-f]{2})*)?$"
)
_HOST = re.compile(r"https?://([^/:?#]*)(?::(\d+))?")


class WebAddressForm(Form):
    """The form of a web address, with a message that says what it is."""

    def __call__(self, value: str) -> str:
        try:
            super().__call__(value)
        except ValidationError:
            raise ValidationError(
                f"Not a web address of at most {self.max} characters: http:// or https://, a host"
                " in ASCII without a user (other letters as xn--...), and what follows with all"
                " else percent-encoded."
            ) from None
        _check_host(*_HOST.match(value).groups())  # type: ignore[union-attr]
        return value


class WebAddress(Code):
    """An absolute http or https address. It is kept and answered as it is, letter for letter.

    Hosts are ASCII: a name in other letters is given in its `xn--` form, which looks like no other
    name. Nothing is converted here, since a look-alike would come out as somebody else's name.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(_ADDRESS, LONGEST_URL, **kwargs)
        self.validators = [WebAddressForm(_ADDRESS, 1, LONGEST_URL)]


def _check_host(host: str, port: str | None) -> None:
    if port is not None and not 0 < int(port) < 65536:
        raise ValidationError("A port is a number from 1 to 65535.")
    if len(host) > 253:
        raise ValidationError("A host has 253 characters at most.")
    for label in host.lower().split("."):
        if label.startswith("-") or label.endswith("-"):
            raise ValidationError("No part of a host begins or ends with a hyphen.")
        if label.startswith("xn--") and not _is_punycode(label[4:]):
            raise ValidationError("A part of the host begins with xn-- and is no such name.")


def _is_punycode(text: str) -> bool:
    """Whether it stands for letters that ASCII lacks, and is how they are written."""
    try:
        decoded = text.encode().decode("punycode")
        again = decoded.encode("punycode").decode()
    except (UnicodeError, OverflowError, ValueError, IndexError):
        return False
    is_word = all(unicodedata.category(letter)[0] in "LMN" for letter in decoded if letter != "-")
    return is_word and not decoded.isascii() and again == text
