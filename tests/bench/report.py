"""The report of the benchmark: the figures beside their aims, a table, a plot, and the section in FINDINGS.md."""

import itertools
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")  # no screen

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from tests.bench.gateways import KINDS, MEANING, Kind
from tests.bench.paired import Spread, difference, ratios, slope, spread

Results = dict[str, dict[str, Any]]
BEGIN, END = "<!-- bench: written by make bench -->\n", "<!-- bench: end -->"
FLAT = 1.25  # times as long with a hundred times the history
COLOURS = {"ledger": "#1b7837", "none": "#888888", "orm": "#b35806", "stock": "#542788"}
OF_KINDS = {"ledger": "with the ledger", "none": "without", "orm": "usual design", "stock": "stock LiteLLM"}
WAYS = {
    "drain": ("drain", COLOURS["ledger"]),
    "copy": ("bare COPY", COLOURS["none"]),
    "copy_same": ("COPY into the same tables", "#bbbbbb"),
}
OF_QUERIES = {"newest": "newest 50 exchanges", "one": "one exchange by id", "day_by_key": "a day's sum by key"}


@dataclass(frozen=True)
class Figure:
    """One line of the table.

    Attributes:
        part: Which part measured it.
        what: What it is.
        aim: What was asked; empty if nothing was.
        value: What was measured, with its unit.
        spread: Its quartiles.
        verdict: Whether the aim is met, or whether a ratio can be told from 1.
    """

    part: str
    what: str
    aim: str
    value: str
    spread: str
    verdict: str


def as_json(found: dict[str, Any]) -> str:
    """Write a part's rounds: a round a line."""
    lines = []
    for name, value in found.items():
        if isinstance(value, list) and value:
            rows = ",\n    ".join(json.dumps(row) for row in value)
            lines.append(f'  "{name}": [\n    {rows}\n  ]')
        else:
            lines.append(f'  "{name}": {json.dumps(value)}')
    return "{\n" + ",\n".join(lines) + "\n}\n"


def figures(results: Results) -> list[Figure]:
    """Make the figures of whatever parts there are."""
    makers = {"gateway": _gateway, "drain": _drain, "memory": _memory, "queries": _queries, "client": _client}
    return [figure for part, make in makers.items() if part in results for figure in make(results[part])]


def _met(is_met: bool) -> str:
    return "met" if is_met else "not met"


def _from_one(found: Spread) -> str:
    return "not separable from 1" if found.covers(1) else "separable from 1"


def _ratio(part: str, what: str, found: Spread, *, at_least: float | None = None) -> Figure:
    verdict = _from_one(found)
    if at_least is not None:
        verdict = f"{_met(found.median >= at_least)}; {verdict}"
    return Figure(
        part,
        what,
        "" if at_least is None else f"≥ {at_least}",
        f"{found.median:.3f}",
        f"{found.low:.3f} … {found.high:.3f}",
        verdict,
    )


def _quantity(part: str, what: str, found: Spread, unit: str, *, at_most: float | None = None) -> Figure:
    verdict = "not separable from 0" if found.covers(0) else ""
    if at_most is not None:
        verdict = "; ".join(filter(None, [_met(found.median <= at_most), verdict]))
    aim = "" if at_most is None else f"≤ {at_most:g} {unit}"
    value, around = f"{found.median:.3g} {unit}", f"{found.low:.3g} … {found.high:.3g}"
    return Figure(part, what, aim, value, around, verdict)


# --- gateway ----------------------------------------------------------------------------------------------------


def _slices(found: dict[str, Any], workers: int, concurrency: int, kind: str) -> list[dict[str, Any]]:
    of_kind = [one for one in found["throughput"] if one["kind"] == kind]
    here = [one for one in of_kind if (one["workers"], one["concurrency"]) == (workers, concurrency)]
    return sorted(here, key=lambda one: int(one["round"]))


def _rates(slices: Iterable[dict[str, Any]]) -> list[float]:
    return [one["requests"] / one["seconds"] for one in slices]


def _cpu(slices: Iterable[dict[str, Any]]) -> list[float]:
    """Milliseconds of CPU a request."""
    return [one["cpu_seconds"] / one["requests"] * 1e3 for one in slices]


def _case(workers: int, concurrency: int) -> str:
    return f"concurrency {concurrency}, {workers} worker{'s' * (workers > 1)}"


def _gateway(found: dict[str, Any]) -> Iterator[Figure]:
    taken = found["latency_ms"]
    for kind in ("ledger", "orm", "stock"):
        for name, quantile, limit in (("p50", 0.5, 0.5), ("p99", 0.99, 2.0)):
            yield _quantity(
                "gateway",
                f"added latency, concurrency 1, {name}: {OF_KINDS[kind]}",
                difference(taken[kind], taken["none"], quantile),
                "ms",
                at_most=limit if kind == "ledger" else None,
            )
    yield _quantity("gateway", "the disk alone, as often: 4 KB and fdatasync", spread(taken["disk"]), "ms")
    cases = sorted({(one["workers"], one["concurrency"]) for one in found["throughput"]})
    for kind in ("ledger", "orm", "stock"):
        for workers, concurrency in cases:
            one, other = (_rates(_slices(found, workers, concurrency, each)) for each in (kind, "none"))
            yield _ratio(
                "gateway",
                f"throughput ÷ without, {_case(workers, concurrency)}: {OF_KINDS[kind]}",
                ratios(one, other),
                at_least=0.97 if kind == "ledger" else None,
            )
    for workers, concurrency in cases:
        one, other = (_rates(_slices(found, workers, concurrency, each)) for each in ("ledger", "stock"))
        yield _ratio(
            "gateway",
            f"throughput with the ledger ÷ stock LiteLLM, {_case(workers, concurrency)}",
            ratios(one, other),
        )
    for kind in ("ledger", "orm", "stock"):
        pairs = [
            [_cpu(_slices(found, workers, concurrency, each)) for workers, concurrency in cases]
            for each in (kind, "none")
        ]
        one, other = (list(itertools.chain(*of_kind)) for of_kind in pairs)
        yield _ratio("gateway", f"CPU a request ÷ without: {OF_KINDS[kind]}", ratios(one, other))
    alone = {kind: _cpu(one for one in found["alone"] if one["kind"] == kind) for kind in ("recorded", "bare")}
    differences = [one - other for one, other in zip(alone["recorded"], alone["bare"], strict=True)]
    yield _quantity("gateway", "CPU a request of the ledger alone", spread(differences), "ms")
    for one in found["stored"]:
        yield Figure(
            "gateway",
            f"rows stored ÷ answered: {OF_KINDS[one['kind']]}",
            "1" if one["kind"] == "ledger" else "",
            f"{one['stored']} ÷ {one['answered']}",
            "",
            _met(one["stored"] == one["answered"]) if one["kind"] == "ledger" else "",
        )
    for one in found["killed"]:
        lost = one["answered"] - one["stored"]
        yield Figure(
            "gateway",
            f"answers whose rows are lost, kill -9 at {_case(one['workers'], 64)}: {OF_KINDS[one['kind']]}",
            "0" if one["kind"] == "ledger" else "",
            f"{lost} of {one['answered']}",
            "",
            _met(lost == 0) if one["kind"] == "ledger" else "",
        )


# --- drain ------------------------------------------------------------------------------------------------------


def _drain(found: dict[str, Any]) -> Iterator[Figure]:
    for size in sorted({one["body_bytes"] for one in found["rounds"]}):
        rounds = [one for one in found["rounds"] if one["body_bytes"] == size]
        drained, copied, copied_same = ([one["rows"] / one[f"{way}_seconds"] for one in rounds] for way in WAYS)
        about = f"pairs of {2 * size // 1_000} KB"
        rate = spread(drained)
        yield Figure(
            "drain",
            f"into partitioned tables, {about}",
            "≥ 20000 rows/s",
            f"{rate.median:.0f} rows/s",
            f"{rate.low:.0f} … {rate.high:.0f}",
            _met(rate.median >= 20_000),
        )
        yield _ratio("drain", f"÷ bare COPY, {about}", ratios(drained, copied), at_least=0.5)
        yield _ratio("drain", f"÷ COPY into the same tables, {about}", ratios(drained, copied_same))


# --- memory -----------------------------------------------------------------------------------------------------


def _memory(found: dict[str, Any]) -> Iterator[Figure]:
    for name in ("pss", "rss"):
        added = spread([one["ledger"][name] - one["none"][name] for one in found["beside"]])
        limit = 30 if name == "pss" else None
        yield _quantity("memory", f"added to a worker, writer included ({name.upper()})", added, "MB", at_most=limit)
    requests = [one["requests"] for one in found["beside"]]
    added_pss = [one["ledger"]["pss"] - one["none"]["pss"] for one in found["beside"]]
    yield _quantity(
        "memory",
        f"growth of what is added, over {requests[-1]} requests to LiteLLM",
        _times(slope(requests, added_pss), 1e4),
        "MB / 10,000 requests",
    )
    for phase, meaning in (("draining", "with the drain"), ("outage", "while the database is away")):
        samples = found[phase][len(found[phase]) // 5 :]  # until then allocators fill their reserves
        count = samples[-1]["requests"]
        grown = slope([one["requests"] for one in samples], [one["pss"] for one in samples])
        yield _quantity(
            "memory",
            f"growth of the ledger alone, {count} requests {meaning}",
            _times(grown, count),
            f"MB / {count} requests",
        )


def _times(found: Spread, factor: float) -> Spread:
    return Spread(found.low * factor, found.median * factor, found.high * factor)


# --- queries ----------------------------------------------------------------------------------------------------


def _queries(found: dict[str, Any]) -> Iterator[Figure]:
    sizes = [one["exchanges"] for one in found["histories"]]
    for query, meaning in OF_QUERIES.items():
        taken = {size: _milliseconds(found, query, size) for size in sizes}
        for size in sizes:
            yield _quantity("queries", f"{meaning}, {size:,} exchanges", spread(taken[size]), "ms")
        longest = ratios(taken[sizes[-1]], taken[sizes[0]])
        yield Figure(
            "queries",
            f"{meaning}, {sizes[-1]:,} ÷ {sizes[0]:,} exchanges",
            f"flat: ≤ {FLAT}",
            f"{longest.median:.2f}",
            f"{longest.low:.2f} … {longest.high:.2f}",
            f"{_met(longest.median <= FLAT)}; {_from_one(longest)}",
        )
        (plan,) = [one for one in found["plans"] if one["query"] == query and one["exchanges"] == sizes[-1]]
        yield Figure(
            "queries",
            f"{meaning}, {sizes[-1]:,} exchanges: partitions read",
            "pruned",
            f"{len(plan['read'])} of {plan['partitions']}",
            "",
            _met(len(plan["read"]) < plan["partitions"] / 4),
        )


def _milliseconds(found: dict[str, Any], query: str, size: int) -> list[float]:
    return [one["value"] for one in found["milliseconds"] if (one["query"], one["exchanges"]) == (query, size)]


# --- client -----------------------------------------------------------------------------------------------------


def _client(found: dict[str, Any]) -> Iterator[Figure]:
    for compiled in (True, False):
        about = "compiled" if compiled else "not compiled"
        added = {
            (name, field): [
                one[field] - other[field]
                for one, other in zip(
                    _imports(found, name, compiled, True), _imports(found, name, compiled, False), strict=True
                )
            ]
            for name in ("ours", "generated")
            for field in ("cpu_seconds", "pss_mb")
        }
        for what, field, unit in (("CPU time", "cpu_seconds", "s"), ("memory", "pss_mb", "MB")):
            ours, generated = added["ours", field], added["generated", field]
            yield _quantity("client", f"`import prisma` and a client, {about}, {what}", spread(ours), unit)
            if generated:
                compared = ratios(ours, generated)
                yield _at_most("client", f"the same ÷ the generated client, {about}, {what}", compared, 0.125)
        if added["generated", "pss_mb"]:
            pairs = zip(added["ours", "pss_mb"], added["generated", "pss_mb"], strict=True)
            saved = spread([generated - ours for ours, generated in pairs])
            yield Figure(
                "client",
                f"memory that a worker saves, {about}, Prisma's engine not counted",
                "≥ 300 MB",
                f"{saved.median:.0f} MB",
                f"{saved.low:.0f} … {saved.high:.0f}",
                _met(saved.median >= 300),
            )
    for call, limit in (("find_unique", 1.5), ("find_many", 2.0), ("create_many", 2.0)):
        rounds = found[call]
        about = call if call == "find_unique" else f"{call} of 10,000 rows"
        compared = ratios([one["ours"] for one in rounds], [one["asyncpg"] for one in rounds])
        yield _at_most("client", f"{about} ÷ asyncpg alone", compared, limit)
        if call != "find_unique":
            for kind in ("ours", "asyncpg"):
                yield _quantity(
                    "client",
                    f"{about}, the event loop blocked at most: {kind}",
                    spread([one[f"{kind}_blocked"] for one in rounds]),
                    "ms",
                    at_most=50 if kind == "ours" else None,
                )
    chats = {kind: [one[kind] for one in found["chat_ms"]] for kind in ("master", "cold", "warm", "select")}
    for kind, meaning in (("cold", "not seen before"), ("warm", "seen before")):
        longer = difference(chats[kind], chats["master"], 0.5)
        limit_ms = spread(chats["select"]).median if kind == "cold" else None
        yield _quantity(
            "client", f"chat by a key {meaning}, more than by the master key, p50", longer, "ms", at_most=limit_ms
        )


def _imports(found: dict[str, Any], client: str, compiled: bool, imported: bool) -> list[dict[str, Any]]:
    wanted = (client, compiled, imported)
    return [one for one in found["imports"] if (one["client"], one["compiled"], one["imported"]) == wanted]


def _at_most(part: str, what: str, found: Spread, limit: float) -> Figure:
    verdict = f"{_met(found.median <= limit)}; {_from_one(found)}"
    return Figure(part, what, f"≤ {limit:g}", f"{found.median:.3f}", f"{found.low:.3f} … {found.high:.3f}", verdict)


# --- table, plot, FINDINGS.md -----------------------------------------------------------------------------------


def table(found: list[Figure]) -> str:
    """Write the figures for a terminal."""
    rows = [("", "aim", "measured", "quartiles", "")]
    rows += [(f"{one.part}: {one.what}", one.aim, one.value, one.spread, one.verdict) for one in found]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return "".join("  ".join(map(str.ljust, row, widths)).rstrip() + "\n" for row in rows)


def draw(results: Results, file: Path) -> None:
    """Draw a picture for each part that there is."""
    drawn = {
        "gateway": _draw_gateway,
        "drain": _draw_drain,
        "memory": _draw_memory,
        "queries": _draw_queries,
        "client": _draw_client,
    }
    parts = [part for part in drawn if part in results]
    panels = [(part, number) for part in parts for number in range(2 if part in {"gateway", "memory"} else 1)]
    figure, axes = plt.subplots((len(panels) + 1) // 2, 2, figsize=(12, 3.6 * ((len(panels) + 1) // 2)), squeeze=False)
    flat = list(axes.flat)
    for (part, number), axis in zip(panels, flat, strict=False):
        drawn[part](results[part], axis, number)
    for axis in flat[len(panels) :]:
        axis.axis("off")
    figure.tight_layout()
    figure.savefig(file, dpi=110)
    plt.close(figure)


def _draw_gateway(found: dict[str, Any], axis: Axes, number: int) -> None:
    if number == 0:
        for kind in KINDS:
            taken = sorted(found["latency_ms"][kind])
            share = [(place + 1) / len(taken) for place in range(len(taken))]
            axis.plot(taken, share, label=OF_KINDS[kind], color=COLOURS[kind])
        every = sorted(itertools.chain(*(found["latency_ms"][kind] for kind in KINDS)))
        axis.set_xlim(every[0] * 0.95, every[int(len(every) * 0.985)] * 1.1)
        axis.set(title="Latency at concurrency 1, upstream 20 ms", xlabel="ms", ylabel="share of requests")
        axis.legend(loc="lower right")
        return
    cases = sorted({(one["workers"], one["concurrency"]) for one in found["throughput"]})
    compared: tuple[Kind, ...] = ("ledger", "orm", "stock")
    for place, kind in enumerate(compared):
        values = [ratios(_rates(_slices(found, *case, kind)), _rates(_slices(found, *case, "none"))) for case in cases]
        medians = [one.median for one in values]
        bars = [[one.median - one.low for one in values], [one.high - one.median for one in values]]
        where = [index + (place - 1) * 0.2 for index in range(len(cases))]
        axis.errorbar(where, medians, yerr=bars, fmt="o", capsize=4, label=OF_KINDS[kind], color=COLOURS[kind])
    axis.axhline(1, color="#888888", linewidth=1)
    axis.axhline(0.97, color="#1b7837", linewidth=1, linestyle=":")
    axis.set_xticks(range(len(cases)), [f"c {concurrency}, {workers} w" for workers, concurrency in cases])
    axis.set(title="Throughput ÷ the same gateway without the ledger", ylabel="median and quartiles of the rounds")
    axis.legend()


def _draw_drain(found: dict[str, Any], axis: Axes, _number: int) -> None:
    sizes = sorted({one["body_bytes"] for one in found["rounds"]})
    for place, (way, (label, colour)) in enumerate(WAYS.items()):
        field = f"{way}_seconds"
        rates = [
            spread([one["rows"] / one[field] for one in found["rounds"] if one["body_bytes"] == size]) for size in sizes
        ]
        bars = [[one.median - one.low for one in rates], [one.high - one.median for one in rates]]
        where = [index + (place - 1) * 0.27 for index in range(len(sizes))]
        axis.bar(where, [one.median for one in rates], 0.25, yerr=bars, capsize=4, label=label, color=colour)
    axis.axhline(20_000, color="#1b7837", linewidth=1, linestyle=":")
    axis.set_xticks(range(len(sizes)), [f"pairs of {2 * size // 1_000} KB" for size in sizes])
    axis.set(title="A backlog into the database", ylabel="rows/s")
    axis.legend()


def _draw_memory(found: dict[str, Any], axis: Axes, number: int) -> None:
    if number == 0:
        requests = [one["requests"] for one in found["beside"]]
        for kind in ("ledger", "none"):
            values = [one[kind]["pss"] for one in found["beside"]]
            axis.plot(requests, values, label=OF_KINDS[kind], color=COLOURS[kind])
        axis.set(title="Memory of a worker", xlabel="requests", ylabel="PSS, MB")
        axis.set_ylim(0, axis.get_ylim()[1] * 1.1)
        axis.legend(loc="lower right")
        return
    for phase, label, colour in (
        ("draining", "with the drain", COLOURS["ledger"]),
        ("outage", "while the database is away", COLOURS["orm"]),
    ):
        samples = found[phase]
        axis.plot([one["requests"] for one in samples], [one["pss"] for one in samples], label=label, color=colour)
    axis.set(title="Memory of the ledger before an application that costs nothing", xlabel="requests", ylabel="PSS, MB")
    axis.set_ylim(0, axis.get_ylim()[1] * 1.1)
    axis.legend(loc="lower right")


def _draw_queries(found: dict[str, Any], axis: Axes, _number: int) -> None:
    sizes = [one["exchanges"] for one in found["histories"]]
    for query, meaning in OF_QUERIES.items():
        values = [spread(_milliseconds(found, query, size)) for size in sizes]
        bars = [[one.median - one.low for one in values], [one.high - one.median for one in values]]
        axis.errorbar(sizes, [one.median for one in values], yerr=bars, fmt="o-", capsize=4, label=meaning)
    axis.set(title="Queries, the same traffic a day", xlabel="exchanges", ylabel="ms", xscale="log", yscale="log")
    axis.legend()


def _draw_client(found: dict[str, Any], axis: Axes, _number: int) -> None:
    calls = ("find_unique", "find_many", "create_many")
    for place, call in enumerate(calls):
        one = ratios([one["ours"] for one in found[call]], [one["asyncpg"] for one in found[call]])
        error = [[one.median - one.low], [one.high - one.median]]
        axis.bar([place], [one.median], 0.5, yerr=error, capsize=4, color=COLOURS["ledger"])
    axis.axhline(1, color="#888888", linewidth=1)
    axis.set_xticks(range(len(calls)), ["find_unique", "find_many, 10,000", "create_many, 10,000"])
    axis.set(title="The Prisma client ÷ asyncpg alone", ylabel="median and quartiles of the rounds")


def write_findings(results: Results, found: list[Figure], file: Path) -> None:
    """Write the section between the markers; what is around it stays.

    Raises:
        ValueError: The markers are not there.
    """
    before, begin, rest = file.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{file} must have the lines {BEGIN.strip()} and {END}")
    file.write_text(before + begin + section(results, found) + end + after)


def section(results: Results, found: list[Figure]) -> str:
    """Write the figures and their conditions as Markdown."""
    lines = ["", "![The benchmark's plot](findings/benchmark.png)", ""]
    for part, result in results.items():
        about = result["conditions"]
        lines += [
            f"### {part}",
            "",
            f"{about['began']}, commit {about['commit']}, {about['cores']} cores of {about['cpu']}, "
            f"{about['memory_gb']} GB, kernel {about['kernel']}, {about['file_system']}, load before "
            f"{about['load_before']}; PostgreSQL {about['postgresql']}, LiteLLM {about['litellm']}, "
            f"uvicorn {about['uvicorn']}, Python {about['python']}. "
            f"Raw rounds: [findings/{part}.json](findings/{part}.json)",
            "",
            *(f"- {OF_KINDS[kind]}: {MEANING[kind]}" for kind in KINDS if part == "gateway"),
            "",
            *([f"Left out: {result['left_out']}", ""] if "left_out" in result else []),
            "| figure | aim | measured | quartiles | |",
            "|---|---|---|---|---|",
            *(
                f"| {one.what} | {one.aim} | {one.value} | {one.spread} | {one.verdict} |"
                for one in found
                if one.part == part
            ),
            "",
        ]
    return "\n".join(lines) + "\n"
