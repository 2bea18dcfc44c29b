"""Who asks that is nobody: programs that say so, and browsers that only look ahead."""

from __future__ import annotations

import re
from collections.abc import Callable

#: Parts of the names under which crawlers, previews and headless browsers go. Libraries of HTTP
#: are not among them: a shop front counts with one from its server.
_TOKENS = (
    r"bot\b", "bot/", "bots", "crawl", "spider", "slurp", "mediapartners", "facebookexternalhit",
    "embedly", "whatsapp", "telegram", "skypeuripreview", "preview", "lighthouse", "pingdom",
    "uptime", "headless", "phantomjs", "selenium", "puppeteer", "playwright", "google-read-aloud",
    "apis-google", "feedfetcher", "ia_archiver", "archiver", "validator", "gptbot", "ccbot",
    "bytespider", "perplexity", "claudebot", "scrapy",
)  # fmt: skip
_BOT = re.compile("|".join(_TOKENS), re.IGNORECASE)
_LOOKS_AHEAD = re.compile("prefetch|prerender|preview", re.IGNORECASE)
_HEADERS = ("Sec-Purpose", "Purpose", "X-Purpose", "X-Moz")


def is_bot(agent: str) -> bool:
    """Whether a User-Agent says that nobody sees what it gets."""
    return _BOT.search(agent[:1000]) is not None


def is_prefetch(header: Callable[[str, str], str]) -> bool:
    """Whether a browser asks for what somebody may want to see; `header(name, "")` answers one."""
    return any(_LOOKS_AHEAD.search(header(name, "")) is not None for name in _HEADERS)
