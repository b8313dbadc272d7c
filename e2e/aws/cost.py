"""Prints the tables of docs/cost.md: python e2e/aws/cost.py

Measured figures come first, each with its source. Prices are AWS's list prices in us-east-1,
November 2026, without the free tier.
"""

# e2e/tests/lookahead.rs, a_steady_heartbeat_costs_about_one_unit_and_invokes_no_function: a period and a
# grace of one minute, no ping log
WRITES, READS = 1.083, 1.046
# The ping log takes one more write (e2e/tests/heartbeats.rs).
LOG_WRITES = 1.0
# Minutes per month.
MINUTES = 730 * 60
# cargo run --release -p e2e --bin bootstraps: CPU time of a heartbeat, in ms; the share of a CPU
# that 256 MB have; and the time of a table write within a region, in ms. The last is not measured
# but AWS's own "single-digit milliseconds".
CPU_MS, SHARE, TABLE_MS = 0.6, 256 / 1769, 4
INGEST_MS, INGEST_GB = CPU_MS / SHARE + TABLE_MS, 0.25
# A sweep: reads per shard that find nothing (e2e/tests/heartbeats.rs: at most five), and
# milliseconds at 512 MB: 60 for all shards, plus 0.02 for each monitor whose timer fires, which is
# two in three per minute.
IDLE_READS, SWEEP_MS, SWEEP_GB, FIRES, FIRE_MS = 3, 60, 0.5, 0.65, 0.02

PER_MILLION = {"write": 0.625, "read": 0.125, "request": 0.20}
GB_SECOND = 0.0000133334


def shards(monitors):
    return 4 if monitors <= 100_000 else 16


def cost(monitors, period_s, log=False):
    beats = monitors * MINUTES * 60 / period_s
    writes = beats * (WRITES + LOG_WRITES * log)
    # Timers fire at most once per heartbeat, and at most about once a minute.
    reads = beats * READS
    ingest = beats * INGEST_MS / 1000 * INGEST_GB * GB_SECOND
    sweep_ms = SWEEP_MS + monitors * FIRES * min(1, 60 / period_s) * FIRE_MS
    evaluate = MINUTES * (PER_MILLION["request"] / 1e6 + sweep_ms / 1000 * SWEEP_GB * GB_SECOND)
    idle = MINUTES * shards(monitors) * IDLE_READS * PER_MILLION["read"] / 1e6
    # Thrum's own heartbeat, and one line of metrics per minute.
    own = MINUTES * (PER_MILLION["write"] + PER_MILLION["request"]) / 1e6 + MINUTES * 600 / 1e9 * 0.50
    parts = {
        "writes": writes * PER_MILLION["write"] / 1e6,
        "reads": reads * PER_MILLION["read"] / 1e6 + idle,
        "invocations": beats * PER_MILLION["request"] / 1e6,
        "milliseconds": ingest + evaluate,
        "own": own,
    }
    return beats, parts


def money(x):
    return f"{x:,.2f}" if x < 1000 else f"{x:,.0f}"


def table(period_s, log=False):
    print("| monitors | heartbeats a month | writes | reads | invocations | compute | sum, $ |")
    print("|---:|---:|---:|---:|---:|---:|---:|")
    for monitors in (10, 1_000, 100_000, 1_000_000):
        beats, parts = cost(monitors, period_s, log)
        cells = [parts["writes"], parts["reads"], parts["invocations"] , parts["milliseconds"] + parts["own"], sum(parts.values())]
        print(f"| {monitors:,} | {beats:,.0f} | " + " | ".join(money(cell) for cell in cells) + " |")


if __name__ == "__main__":
    million = {
        "writes": WRITES * PER_MILLION["write"],
        "reads": READS * PER_MILLION["read"],
        "invocations": PER_MILLION["request"],
        "ingest's milliseconds": INGEST_MS * 1000 * INGEST_GB * GB_SECOND,
    }
    print(f"A million heartbeats, ingest {INGEST_MS:.1f} ms each:")
    for what, dollars in million.items():
        print(f"  {what}: {dollars:.3f}")
    print(f"  sum: {sum(million.values()):.3f}\n")
    for title, period_s, log in (("every minute", 60, False), ("every five minutes", 300, False), ("every minute, with the log", 60, True)):
        print(f"\n{title}\n")
        table(period_s, log)
