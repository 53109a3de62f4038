"""The results: medians, spread and ratios, as Markdown and as JSON."""

import json
import statistics

from proxies import ALL, SEKISHO

NOTES = [
    "Cost is the CPU time (user + system) of the proxy process with all its descendants, exited threads and "
    "waited-for children included, by its own CPU clock, from before the batch until it has come to rest again, divided by "
    "the work done. It says nothing of the generator or the origin, which share the machine.",
    "Each cell: the median over the rounds (minimum–maximum); in a peer's cell in bold the median of sekisho ÷ peer "
    "within the same round, below 1 where sekisho is cheaper.",
    "All in alternation: one batch of each proxy a round, the order rotated by one from round to round. A batch in "
    "which the generator saw an error ends the run.",
    "Keep-alive rows: the cost of opening the connections is measured by a batch of its own and subtracted.",
    "Idle rows: growth of the proportional set size (Pss) of the process with its descendants, by connection; a fresh "
    "process each round, warmed by 200 connections. Kernel memory (socket buffers) is not in it.",
    "Latency rows: keep-alive requests in open loop at a tenth of sekisho's closed-loop throughput on this machine "
    "(generator and origin on the same cores), the same rate for all; shown is what came on top of asking the origin "
    "directly in the same round.",
    "TLS 1.3, ECDSA P-256 certificates, X25519 with the client, which offers AES-256-GCM first and resumes no session. An "
    "inspecting sekisho chooses AES-128-GCM on both sides, Squid what was offered first. To the origin "
    "an inspecting sekisho offers X25519MLKEM768 first, Squid X25519. The same allowlist of 200 names for all.",
    "sekisho: everything on (policy, address guard, certificate verification with its verdict kept, limits, a record "
    "of each attempt to a file), its default of a worker thread per core. In the tunnel rows it is the only one that "
    "verifies the origin's certificate.",
    "Peers: Debian's packages and process models: Squid one worker, HAProxy a thread per core, nginx a worker per "
    "core, tinyproxy a thread per connection; each logs every connection to a file. Inspecting, Squid verifies the "
    "origin against the same CA and sets the same header; its certificate helper's CPU is counted.",
]


def number(value, places):
    return f"{value:,.{places}f}"


def spread(values, places):
    median = statistics.median(values)
    return f"{number(median, places)} ({number(min(values), places)}–{number(max(values), places)})"


def ratio(sekisho, peer):
    """Median over the rounds of sekisho ÷ peer; None where a peer's value leaves nothing to divide by."""
    if not sekisho or not peer or min(peer) <= 0:
        return None
    return statistics.median(ours / theirs for ours, theirs in zip(sekisho, peer))


def lines_of(result):
    """One line of the table for each metric of a row: its title and the values of each proxy, round by round."""
    row = result["row"]
    for metric in row.metrics:
        title = f"{row.work}{', ' + metric if metric else ''}, {row.unit}"
        values = {key: [one[metric] for one in rounds] for key, rounds in result["rounds"].items()}
        yield metric, title, values


class Footnotes:
    def __init__(self):
        self.texts = []

    def mark(self, text):
        if text not in self.texts:
            self.texts.append(text)
        return f"[{self.texts.index(text) + 1}]"


def cell(result, key, values, footnotes):
    row = result["row"]
    if key not in values:
        return f"– {footnotes.mark(result['absent'][key])}"
    text = spread(values[key], row.places)
    if key != SEKISHO.key:
        quotient = ratio(values.get(SEKISHO.key), values[key])
        text += f" **{quotient:.2f}**" if quotient is not None else ""
    notes = [row.notes[key]] if key in row.notes else []
    if late := len(result["doubts"].get(key, ())) + len(result["doubts"].get("direct", ())):
        notes.append(f"in {late} of its batches and those without a proxy the generator was late: in part its own latency")
    return " ".join([text, *map(footnotes.mark, notes)])


def markdown(results, facts):
    machine = facts["machine"]
    footnotes = Footnotes()
    columns = [SEKISHO, *(proxy for proxy in ALL if proxy is not SEKISHO)]
    out = [
        f"# sekisho and its peers, {facts['date']}",
        "",
        *([f"**{facts['remark']}**", ""] if facts["remark"] else []),
        *([f"**Incomplete: {facts['stopped']}**", ""] if facts["stopped"] else []),
        f"`{facts['command']}`, {facts['rounds']} rounds. {machine['cpu']}, {machine['cores']} cores, "
        f"{machine['memory_mib']:,} MiB, {machine['kernel']}, {machine['system']}; load average before the run "
        f"{machine['load_average_before'][0]}.",
        "",
        "; ".join(facts["versions"].values()) + ".",
        "",
        "| work | " + " | ".join(proxy.title for proxy in columns) + " |",
        "|---|" + "---|" * len(columns),
    ]
    for result in results:
        for _, title, values in lines_of(result):
            cells = [cell(result, proxy.key, values, footnotes) for proxy in columns]
            out.append(f"| {title} | " + " | ".join(cells) + " |")
    out += ["", *(f"* {note}" for note in facts["notes"]), ""]
    out += [f"{number}. {text}" for number, text in enumerate(footnotes.texts, 1)]
    return "\n".join(out) + "\n"


def document(results, facts):
    rows = []
    for result in results:
        for metric, title, values in lines_of(result):
            row = result["row"]
            rows.append({
                "row": row.key + (f"-{metric}" if metric else ""),
                "work": title,
                "unit": row.unit,
                "batch": result["batch"],
                "results": {
                    key: {
                        "median": statistics.median(rounds), "min": min(rounds), "max": max(rounds), "rounds": rounds,
                        "sekisho_by_this": ratio(values.get(SEKISHO.key), rounds), "note": row.notes.get(key),
                    } for key, rounds in values.items()
                },
                "cannot": result["absent"],
                "doubts": result["doubts"],
            })
    return json.dumps({**facts, "rows": rows}, indent=2, ensure_ascii=False) + "\n"


def write(folder, results, facts):
    folder.mkdir(parents=True, exist_ok=True)
    facts = {**facts, "notes": NOTES}
    text = markdown(results, facts)
    (folder / "peers.md").write_text(text)
    (folder / "peers.json").write_text(document(results, facts))
    return text
