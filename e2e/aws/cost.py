"""Prints the tables of docs/cost.md: python e2e/aws/cost.py

Measured figures come first, each with its source. Prices are AWS's list prices in us-east-1,
November 2026, without the free tier.
"""

# e2e/tests/lookahead.rs, a_steady_heartbeat_costs_about_one_unit_and_invokes_no_function: a period and a
# grace of one minute, no ping log
WRITES, READS = 1.084, 0.707
# The ping log takes one more write per started kB (e2e/tests/heartbeats.rs).
LOG_WRITES = 1.0
# Hours, minutes and seconds per month.
HOURS = 730
MINUTES = HOURS * 60
SECONDS = MINUTES * 60
# cargo run --release -p e2e --bin bootstraps: CPU time of a heartbeat and of a timer, in ms; the share
# of a CPU that 256 and 512 MB have; and the time of a table write within a region, in ms. The last is
# not measured but AWS's own "single-digit milliseconds".
CPU_MS, TIMER_MS, SHARE, TABLE_MS = 0.6, 0.0038, 256 / 1769, 4
INGEST_MS, INGEST_GB = CPU_MS / SHARE + TABLE_MS, 0.25
# cargo run --release -p e2e -- container: CPU time of a ping of its own connection, in ms, rounded up.
CONTAINER_MS = 0.7
# A sweep: reads per shard that find nothing (e2e/tests/heartbeats.rs: at most five), and milliseconds
# at 512 MB: 60 for all shards, and the timers that fire, which are two in three monitors a minute.
IDLE_READS, SWEEP_MS, SWEEP_GB, FIRES = 3, 60, 0.5, 0.65

PER_MILLION = {"write": 0.625, "read": 0.125, "request": 0.20}
GB_SECOND = 0.0000133334
# Per unit and month: provisioned, and with capacity reserved for a year (upfront payment spread).
UNIT = {"write": 0.00065 * HOURS, "read": 0.00013 * HOURS}
RESERVED = {"write": 0.000128 * HOURS + 150 / 12 / 100, "read": 0.000025 * HOURS + 30 / 12 / 100}
# Auto scaling keeps this share of the capacity in use; these are the smallest values of the template.
USE, LEAST = 0.80, 50
# A container with one CPU and 2 GB on Fargate, arm64, and a load balancer, per month; its capacity units:
# connections held, and requests or connections that begin each second.
# The public address of each container and of the load balancer in two zones costs, too.
ADDRESS = 0.005 * HOURS
TASK, TASK_USE, LEAST_TASKS = (0.03238 + 2 * 0.00356) * HOURS + ADDRESS, 0.5, 2
BALANCER, BALANCER_UNIT, HELD, NEW = 0.0225 * HOURS, 0.008 * HOURS, 3_000, 25

# A managed instance with four CPUs, one of them for AWS's own work (c7g.xlarge, on demand, and AWS's fee), per month.
INSTANCE, INSTANCE_CPUS, LEAST_INSTANCES = 0.145 * 1.15 * HOURS, 3, 3


def shards(monitors):
    return 4 if monitors <= 100_000 else 16


def beats_of(monitors, period_s):
    return monitors * SECONDS / period_s


def units(monitors, period_s, log=False):
    """Write and read units a month."""
    beats = beats_of(monitors, period_s)
    # Timers fire at most once per heartbeat, and at most about once a minute.
    idle = MINUTES * shards(monitors) * IDLE_READS
    return beats * (WRITES + LOG_WRITES * log) + 2 * MINUTES, beats * READS + idle


def evaluate(monitors, period_s):
    """The functions that sweep, and the requests to their queue, which Lambda polls all the time."""
    fired = monitors * FIRES * min(1, 60 / period_s)
    invocations = MINUTES * (2 + shards(monitors) // 4)
    ms = MINUTES * (SWEEP_MS + fired * TIMER_MS / (512 / 1769))
    # One line of metrics per invocation.
    logs = invocations * 600 / 1e9 * 0.50
    return invocations * PER_MILLION["request"] / 1e6 + ms / 1000 * SWEEP_GB * GB_SECOND + logs


def functions(monitors, period_s):
    beats = beats_of(monitors, period_s)
    return beats * PER_MILLION["request"] / 1e6 + beats * INGEST_MS / 1000 * INGEST_GB * GB_SECOND


def containers(monitors, period_s, held=None):
    """`held`: whether agents keep their connections; the load balancer closes those that wait 120 s."""
    held = period_s < 120 if held is None else held
    rate = monitors / period_s
    tasks = max(LEAST_TASKS, -(-rate * CONTAINER_MS / 1000 // TASK_USE))
    load = monitors / HELD if held else rate / NEW
    return tasks * TASK + BALANCER + 2 * ADDRESS + max(1, load) * BALANCER_UNIT


def instances(monitors, period_s):
    """Requests cost the same as those of functions."""
    cpus = monitors / period_s * CPU_MS / 1000 / TASK_USE
    requests = beats_of(monitors, period_s) * PER_MILLION["request"] / 1e6
    return requests + max(LEAST_INSTANCES, -(-cpus // INSTANCE_CPUS)) * INSTANCE


def on_demand(monitors, period_s):
    writes, reads = units(monitors, period_s)
    return writes * PER_MILLION["write"] / 1e6 + reads * PER_MILLION["read"] / 1e6


def provisioned(monitors, period_s, prices=UNIT):
    writes, reads = (max(LEAST, n / SECONDS / USE) for n in units(monitors, period_s))
    return writes * prices["write"] + reads * prices["read"]


def money(x):
    return f"{x:,.2f}" if x < 1000 else f"{x:,.0f}"


def table(period_s):
    ways = {
        "functions, on demand": lambda n: functions(n, period_s) + on_demand(n, period_s),
        "functions, provisioned": lambda n: functions(n, period_s) + provisioned(n, period_s),
        "instances, provisioned": lambda n: instances(n, period_s) + provisioned(n, period_s),
        "containers, provisioned": lambda n: containers(n, period_s) + provisioned(n, period_s),
        "containers, reserved": lambda n: containers(n, period_s) + provisioned(n, period_s, RESERVED),
    }
    print("| monitors | heartbeats | " + " | ".join(ways) + " |")
    print("|---:|---:|" + "---:|" * len(ways))
    for monitors in (10, 1_000, 100_000, 1_000_000):
        cells = [money(way(monitors) + evaluate(monitors, period_s)) for way in ways.values()]
        print(f"| {monitors:,} | {beats_of(monitors, period_s):,.0f} | " + " | ".join(cells) + " |")


def pays_from(cheaper, dearer, period_s=60):
    """The smallest number of monitors from which one way costs less."""
    low, high = 1, 10_000_000
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if cheaper(middle, period_s) < dearer(middle, period_s) else (middle, high)
    return high


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
    print("| memory of ingest | a heartbeat takes | $ per million |\n|---:|---:|---:|")
    for memory in (128, 256, 512, 1769):
        ms = CPU_MS / (memory / 1769) + TABLE_MS
        print(f"| {memory:,} MB | {ms:.1f} ms | {ms * 1000 * memory / 1024 * GB_SECOND:.3f} |")
    for title, period_s in (("every minute", 60), ("every five minutes", 300)):
        print(f"\n{title}\n")
        table(period_s)
    print(f"\nprovisioned pays from {pays_from(provisioned, on_demand):,} monitors")
    print(f"instances pay from {pays_from(instances, functions):,} monitors")
    print(f"containers pay from {pays_from(containers, functions):,} monitors")
    print(f"a million monitors: writes {on_demand(1_000_000, 60):,.0f} on demand, {provisioned(1_000_000, 60):,.0f} provisioned,"
          f" {provisioned(1_000_000, 60, RESERVED):,.0f} reserved; containers {containers(1_000_000, 60):,.0f}, or"
          f" {containers(1_000_000, 60, held=False):,.0f} with a connection per heartbeat; functions {functions(1_000_000, 60):,.0f}")
