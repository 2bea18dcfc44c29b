"""The report: Markdown for docs/benchmarks.md."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.backlog import Backlog
    from bench.capture import Commits
    from bench.catalogue import Kind
    from bench.drain import Drain
    from bench.duel import Duel, Side
    from bench.lag import Lag
    from bench.load import Result
    from bench.memory import Memory
    from bench.sign_in import SignIns


def percentile(values: Sequence[float], part: float) -> float:
    """The nearest-rank percentile."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part / 100))]


def table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; every column but the first is set to the right."""
    rule = ["---", *["---:"] * (len(headers) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in (headers, rule, *rows))


def verdict(reached: bool, target: str) -> str:
    """A target and whether it was reached."""
    return f"{target} {'reached' if reached else 'MISSED'}"


def of_duels(duels: Sequence[Duel]) -> str:
    """Shop against twin."""
    from bench.duel import NAMES, TARGETS

    headers = (
        "request", "shop /s", "twin /s", "ratio (min-max)", "target", "shop p50 / p99 ms",
        "twin p50 / p99 ms", "n shop / twin", "errors", "generator's core",
    )  # fmt: skip
    rows = []
    for duel in duels:
        ratios = sorted(duel.ratios)
        ratio = percentile(ratios, 50) if len(ratios) % 2 else _middle(ratios)
        target = TARGETS[duel.kind]
        rows.append(
            (
                NAMES[duel.kind],
                f"{duel.shop.rate:.0f}",
                f"{duel.twin.rate:.0f}",
                f"{ratio:.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f})",
                verdict(ratio >= target, f"≥ {target}"),
                duel.shop.percentiles(),
                duel.twin.percentiles(),
                f"{len(duel.shop.latencies)} / {len(duel.twin.latencies)}",
                f"{len(duel.shop.errors)} / {len(duel.twin.errors)}",
                f"{duel.shop.processor:.0%} / {duel.twin.processor:.0%}",
            )
        )
    return table(headers, rows)


def _middle(ordered: Sequence[float]) -> float:
    half = len(ordered) // 2
    return (ordered[half - 1] + ordered[half]) / 2


def of_sides(sides: dict[str, Side]) -> str:
    """The shop on SQLite, plainly."""
    from bench.duel import NAMES

    rows = [
        (
            NAMES[kind],
            f"{side.rate:.0f}",
            side.percentiles(),
            str(len(side.latencies)),
            str(len(side.errors)),
        )
        for kind, side in sides.items()
    ]
    return table(("request", "shop /s", "p50 / p99 ms", "n", "errors"), rows)


def of_lags(lags: Sequence[Lag]) -> str:
    """Event lags."""
    headers = (
        "lag", "writes/s done", "p50 ms", "target", "p99 ms", "target", "max ms", "n events",
        "write p50 / p99 ms", "errors",
    )  # fmt: skip
    text = table(headers, [_lag(lag) for lag in lags])
    if any(lag.writing.rate < 0.97 * lag.wanted for lag in lags):
        text += "\n\nThe shop did not keep up with the writes: this is the lag of a full machine."
    return text


def _lag(lag: Lag) -> tuple[str, ...]:
    p50, p99 = percentile(lag.values, 50), percentile(lag.values, 99)
    most_p50, most_p99 = lag.targets
    return (
        f"commit to subscriber at {lag.wanted:.0f} writes/s",
        f"{lag.writing.rate:.0f}",
        f"{p50:.1f}",
        verdict(p50 <= most_p50, f"≤ {most_p50:.0f}"),
        f"{p99:.1f}",
        verdict(p99 <= most_p99, f"≤ {most_p99:.0f}"),
        f"{max(lag.values):.0f}",
        str(len(lag.values)),
        _percentiles(lag.writing),
        str(len(lag.writing.errors)),
    )


def of_drain(drain: Drain) -> str:
    """Drain rate."""
    from bench.drain import TARGET, TARGET_NAIVE

    headers = (
        "drain", "events/s", "plain paho QoS 1 /s", "ratio", "target", "one by one /s", "times",
        "target", "n events",
    )  # fmt: skip
    shop, plain, naive = (
        ", ".join(f"{rate:.0f}" for rate in rates)
        for rates in (drain.shop, drain.plain, drain.naive)
    )
    row = (
        "out of a backlog", shop,
        plain, f"{drain.ratio:.2f}", verdict(drain.ratio >= TARGET, f"≥ {TARGET:g}"),
        naive, f"{drain.times_naive:.1f}",
        verdict(drain.times_naive >= TARGET_NAIVE, f"≥ {TARGET_NAIVE:g}"), str(drain.events),
    )  # fmt: skip
    return table(headers, [row])


def of_backlog(found: Backlog) -> str:
    """A large backlog."""
    from bench.backlog import TARGET

    headers = (
        "backlog", "events/s", "of a small one /s", "ratio", "target",
        "unique MiB at first / most / at last",
    )  # fmt: skip
    memory = found.memory
    row = (
        f"{found.events} events", f"{found.large:.0f}", f"{found.small:.0f}",
        f"{found.ratio:.2f}", verdict(found.ratio >= TARGET, f"≥ {TARGET:g}"),
        f"{memory[0]:.0f} / {max(memory):.0f} / {memory[-1]:.0f}",
    )  # fmt: skip
    return table(headers, [row])


def of_capture(commits: Commits) -> str:
    """What capture adds to a commit."""
    from bench.capture import TARGET_P50

    added = percentile(commits.audited, 50) - percentile(commits.plain, 50)
    rows = [
        (name, f"{percentile(values, 50):.2f} / {percentile(values, 99):.2f}", target,
         str(len(values)))
        for name, values, target in (
            ("without an entry", commits.plain, ""),
            ("with its entry", commits.audited,
             verdict(added <= TARGET_P50, f"p50 + {added:.2f}, ≤ {TARGET_P50:g}")),
        )
    ]  # fmt: skip
    return table(("commit of one change", "p50 / p99 ms", "target", "n"), rows)


def of_sign_ins(found: SignIns) -> str:
    """Sign-ins a second, and product reads beside them."""
    rush, reads, quiet = found.rush, found.reads, found.quiet
    slow = percentile(reads.latencies, 99)
    headers = ("sign-ins", "/s", "bare hashes /s", "ratio", "p50 / p99 ms", "n", "errors")
    row = (
        "50 at a time", f"{rush.rate:.0f}", f"{found.hashes:.0f}",
        f"{rush.rate / found.hashes:.2f}", _percentiles(rush), str(len(rush.latencies)),
        str(len(rush.errors)),
    )  # fmt: skip
    reading = ("`GET /products/{id}`, 50 a second", "p50 / p99 ms", "target of p99", "n", "errors")
    rows = [
        ("alone", _percentiles(quiet), "", str(len(quiet.latencies)), str(len(quiet.errors))),
        ("beside them", _percentiles(reads), verdict(slow < 250, "< 250"),
         str(len(reads.latencies)), str(len(reads.errors))),
    ]  # fmt: skip
    return table(headers, [row]) + "\n\n" + table(reading, rows)


def _percentiles(result: Result) -> str:
    return f"{percentile(result.latencies, 50):.1f} / {percentile(result.latencies, 99):.1f}"


def of_memory(memories: Sequence[Memory]) -> str:
    """Memory."""
    rows = [
        (memory.what, str(memory.processes), f"{memory.together:.0f}", f"{memory.resident:.0f}",
         f"{memory.unique:.0f}")
        for memory in memories
    ]  # fmt: skip
    headers = (
        "server", "processes", "MiB together (PSS)", "resident MiB (sum)", "unique MiB (sum)"
    )  # fmt: skip
    return table(headers, rows)


def of_catalogue(kinds: Sequence[Kind]) -> str:
    """Kinds of lists beside the first page."""
    from bench.catalogue import TARGET

    headers = ("list", "p50 / p99 ms", "first page p50 ms", "ratio", "target", "n")
    rows = [
        (
            kind.name,
            f"{percentile(kind.times, 50):.1f} / {percentile(kind.times, 99):.1f}",
            f"{percentile(kind.first, 50):.1f}",
            f"{kind.ratio:.2f}",
            verdict(kind.ratio <= TARGET, f"≤ {TARGET:g}"),
            str(len(kind.times)),
        )
        for kind in kinds
    ]
    return table(headers, rows)
