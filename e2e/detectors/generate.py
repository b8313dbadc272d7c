"""Write seeded synthetic series for trials of anomaly detectors.

Usage: python generate.py DIR [SEED]

Each file has the columns time, value and incident. Three groups, named before the first "-":
  traffic   20 hourly request rates of 12 weeks, 8 incidents each
  backups   20 nightly row counts of 400 nights, 24 halved nights each
  other     harder shapes, most of them without incidents
No incident starts in the first 28 days.
"""

import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np

HOURS = 12 * 7 * 24
QUIET_HOURS = 28 * 24


def write(path, times, values, incidents):
    with open(path, "w") as out:
        out.write("time,value,incident\n")
        for time, value, incident in zip(times, values, incidents):
            out.write(f"{time:%Y-%m-%dT%H:%M:%SZ},{float(value)!r},{incident}\n")


def hourly(rng, count, year=2025):
    start = datetime(year, 1, 1, tzinfo=timezone.utc) + timedelta(days=int(rng.integers(0, 200)))
    return [start + timedelta(hours=i) for i in range(count)]


def daily_shape(rng, times, ratio):
    """Smooth positive factor per time, mean 1 over a day, with the given peak/trough ratio."""
    peak, bump, second = rng.uniform(9, 20), rng.uniform(0, 0.35), rng.uniform(0, 24)

    def log_shape(hour):
        return np.cos(2 * np.pi * (hour - peak) / 24) + bump * np.cos(4 * np.pi * (hour - second) / 24)

    day = log_shape(np.arange(0, 24, 0.25))
    scale = np.log(ratio) / (day.max() - day.min())
    hours = np.array([t.hour for t in times])
    return np.exp(scale * log_shape(hours)) / np.exp(scale * day).mean()


def spaced_spans(rng, count, total, first, longest, gap):
    """Random (start, length) spans, each at least `gap` steps after the end of the one before."""
    while True:
        spans, clear = [], first
        for start in np.sort(rng.integers(first, total - longest, count)):
            length = int(rng.integers(1, longest + 1))
            if start < clear:
                break
            spans.append((int(start), length))
            clear = start + length + gap
        else:
            return spans


def add_incidents(rng, mean, spans, kinds=("drop", "spike", "outage")):
    """Change `mean` in place within the spans and return the incident column."""
    column = [""] * len(mean)
    for number, (start, length) in enumerate(spans, 1):
        factor = {"drop": rng.uniform(0, 0.5), "spike": rng.uniform(1.7, 3), "outage": 0.0}
        mean[start : start + length] *= factor[kinds[rng.integers(len(kinds))]]
        column[start : start + length] = [number] * length
    return column


def traffic(rng):
    times = hourly(rng, HOURS)
    mean = np.exp(rng.uniform(np.log(50), np.log(5000))) * daily_shape(rng, times, rng.uniform(3, 10))
    mean[np.array([t.weekday() >= 5 for t in times])] *= rng.uniform(0.4, 0.9)
    progress = np.linspace(-1, 1, HOURS)
    drift, wave = rng.uniform(-0.14, 0.14), rng.uniform(0, 0.06)
    mean *= np.exp(drift * progress + wave * np.sin(np.pi * progress * rng.uniform(1, 3)))
    mean *= rng.lognormal(0, rng.uniform(0.05, 0.12), HOURS)
    incidents = add_incidents(rng, mean, spaced_spans(rng, 8, HOURS, QUIET_HOURS, 8, 48))
    return times, rng.poisson(mean), incidents


def backups(rng):
    nights = 400
    start = datetime(2024, 1, 1, 2, tzinfo=timezone.utc) + timedelta(days=int(rng.integers(0, 200)))
    jitter = np.clip(rng.normal(0, 240, nights), -900, 900)
    times = [start + timedelta(days=i, seconds=int(jitter[i])) for i in range(nights)]
    weekly = np.ones(7)
    weekly[5:] = rng.uniform(0.3, 1.0)
    if rng.random() < 0.3:
        weekly[4] = rng.uniform(0.6, 1.5)
    mean = np.exp(rng.uniform(np.log(1e3), np.log(1e7))) * weekly[[t.weekday() for t in times]]
    mean *= (1 + rng.uniform(0, 0.6)) ** (np.arange(nights) / 365)
    mean *= rng.lognormal(0, rng.uniform(0.02, 0.08), nights)
    column = [""] * nights
    for number, night in enumerate(np.sort(rng.choice(np.arange(29, nights), 24, replace=False)), 1):
        mean[night] *= 0.5 * rng.uniform(0.95, 1.05)
        column[night] = number
    return times, np.round(mean), column


def autoregressive(rng, count, weight=0.9):
    noise, last = np.empty(count), 0.0
    for i, shock in enumerate(rng.normal(0, 1, count)):
        noise[i] = last = weight * last + shock
    return noise


def sawtooth(rng, count):
    """Percent of disk used: steady growth, freed when a limit of about 90 is passed."""
    used, values, pace = rng.uniform(30, 50), np.empty(count), rng.uniform(0.2, 0.6)
    for i in range(count):
        used += max(rng.normal(pace, pace / 3), 0)
        if used > 90 + rng.normal(0, 0.5):
            used = 35 + rng.normal(0, 2)
        values[i] = used
    return values


def business_hours(rng, day, zone=ZoneInfo("Europe/Berlin")):
    """Load in office hours of Berlin, over a change of the clock."""
    start = datetime(*day, tzinfo=timezone.utc)
    times = [start + timedelta(hours=i) for i in range(HOURS)]
    level = rng.uniform(200, 2000)
    local = [t.astimezone(zone) for t in times]
    busy = np.array([t.weekday() < 5 and 8 <= t.hour < 18 for t in local])
    return times, rng.poisson(level * np.where(busy, 1.0, 0.1) * rng.lognormal(0, 0.07, HOURS))


def others(rng):
    """Yield (name, times, values, incident column)."""

    def quiet(name, values, times=None):
        times = times if times is not None else hourly(rng, len(values))
        return name, times, values, [""] * len(values)

    def troubled(name, mean, **options):
        spans = spaced_spans(rng, 6, HOURS, QUIET_HOURS, 8, 48)
        column = add_incidents(rng, mean, spans, **options)
        return name, hourly(rng, HOURS), mean, column

    for i in range(3):
        level = float(np.round(rng.uniform(1, 1000)))
        yield quiet(f"constant-{i}", np.full(HOURS, level if i else 0.0))
        yield quiet(f"rare_steps-{i}", level + rng.choice([-1, 0, 1], HOURS, p=[0.003, 0.994, 0.003]))
        yield quiet(f"mostly_zero-{i}", rng.poisson(0.05 * (i + 1), HOURS))
        yield quiet(f"walk-{i}", 1000 + np.cumsum(rng.normal(0, 3, HOURS)))
        yield quiet(f"sawtooth-{i}", np.round(sawtooth(rng, HOURS), 3))
        yield quiet(f"heavy_tail-{i}", np.round(100 + 5 * rng.standard_t(3, HOURS), 3))
        times = hourly(rng, HOURS)
        cycle = 100 + 30 * np.sin(2 * np.pi * np.array([t.hour for t in times]) / 24)
        yield quiet(f"autoregressive-{i}", np.round(cycle + 4 * autoregressive(rng, HOURS), 3), times)
        times = hourly(rng, 400 * 24)
        day = np.array([t.timetuple().tm_yday + t.hour / 24 for t in times])
        seasons = 10 - 9 * np.cos(2 * np.pi * (day - 20) / 365.25) - 4 * np.cos(2 * np.pi * (day % 1 - 0.1))
        yield quiet(f"temperature-{i}", np.round(seasons + autoregressive(rng, len(day), 0.97) * 0.7, 1), times)
        times, values = business_hours(rng, [(2025, 2, 10), (2025, 9, 8), (2024, 2, 12)][i])
        yield quiet(f"clock_change-{i}", values, times)

    yield troubled("heavy_tail_incidents-0", 100 + 2 * rng.standard_t(3, HOURS))
    yield troubled("constant_incidents-0", np.full(HOURS, 40.0))
    yield troubled("walk_incidents-0", 1000 + np.cumsum(rng.normal(0, 3, HOURS)))
    name, times, mean, column = troubled("count_incidents-0", np.full(HOURS, 3.0), kinds=("spike",))
    yield name, times, rng.poisson(np.where(mean > 3, 4 * mean, mean)), column


def main():
    folder, seed = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1
    folder.mkdir(parents=True, exist_ok=True)
    streams = iter(np.random.default_rng(seed).spawn(41))
    for i in range(20):
        write(folder / f"traffic-{i:02}.csv", *traffic(next(streams)))
    for i in range(20):
        write(folder / f"backups-{i:02}.csv", *backups(next(streams)))
    for name, times, values, incidents in others(next(streams)):
        write(folder / f"other-{name}.csv", times, values, incidents)


if __name__ == "__main__":
    main()
