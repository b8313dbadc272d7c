"""Benchmark anomaly detectors of other libraries on files of time series.

Usage: python peers.py DIR [WARM_UP_DAYS]      (28 days unless given)

Each DIR/*.csv has the columns time (RFC 3339, ascending), value and incident (number or empty).
A detector meets the values one at a time: it flags a value or not, and only then learns from it.
Values of the warm-up are not judged. An incident is found when one of its values is flagged. A
false alarm is a run of flagged values (gaps of one allowed), none of them in an incident or one
of the two values after it. Prints a JSON line per group (file name before "-") and detector.
"""

import json
import sys
import time
import warnings
from itertools import groupby
from pathlib import Path

import numpy as np
import pandas as pd
from adtk.detector import SeasonalAD
from river import anomaly, linear_model, optim, preprocessing, time_series
from scipy.stats import norm
from statsmodels.tsa.api import ExponentialSmoothing

LEAST_ERROR = 0.01  # an error of the forecast below this (about 1 %) is never flagged
HOURS = pd.date_range("2000-01-01", periods=100_000, freq="h")  # a regular index, any step will do


class RiverGaussian:
    """SNARIMAX forecast, and a GaussianScorer at 4 sigmas on its errors of the last 4 weeks."""

    limit = 1 - 2 * norm.sf(4)

    def __init__(self, period):
        regressor = preprocessing.StandardScaler() | linear_model.LinearRegression(optim.SGD(0.01))
        self.model = time_series.SNARIMAX(p=1, d=0, q=0, m=period, sd=1, sq=2, regressor=regressor)
        self.scorer = anomaly.GaussianScorer(window_size=4 * period, grace_period=period)
        self.early = 3 * period

    def predict(self):
        self.expected = float(self.model.forecast(1)[0])

    def judge(self, value):
        error = value - self.expected
        return abs(error) > LEAST_ERROR and self.scorer.score_one(None, error) > self.limit

    def learn(self, value, real):
        self.early -= 1
        if real and self.early < 0:
            self.scorer.learn_one(None, value - self.expected)
        self.model.learn_one(value)


class Refitted:
    """Base of the detectors that are fitted again and again, on the last eight weeks."""

    def __init__(self, period):
        self.period, self.history, self.errors, self.next = period, [], [], 0

    def predict(self):
        since = len(self.history) - 3 * self.period
        self.ready = since >= 0
        if self.ready and since % max(self.period // self.fits_per_week, 1) == 0:
            self.fit(np.array(self.history[-8 * self.period :]))
        self.expected = self.forecast() if self.ready else 0.0

    def learn(self, value, real):
        if self.ready and real:
            self.errors.append(value - self.expected)
        self.history.append(value)


class StatsmodelsSmoothing(Refitted):
    """Seasonal ExponentialSmoothing fitted weekly, limit of 4.5 sigmas by the median error."""

    fits_per_week = 1

    def fit(self, recent):
        options = {"seasonal_periods": self.period, "initialization_method": "heuristic"}
        fit = ExponentialSmoothing(recent, "add", True, "add", **options).fit()
        self.alpha, self.beta = fit.params["smoothing_level"], fit.params["smoothing_trend"]
        self.gamma, self.phi = fit.params["smoothing_seasonal"], fit.params["damping_trend"]
        self.level, self.trend = fit.level[-1], fit.trend[-1]
        self.season = list(fit.season[-self.period :])

    def forecast(self):
        return self.level + self.phi * self.trend + self.season[0]

    def judge(self, value):
        spread = 1.4826 * np.median(np.abs(self.errors[-4 * self.period :] or [np.inf]))
        return abs(value - self.expected) > 4.5 * max(spread, LEAST_ERROR)

    def learn(self, value, real):
        if self.ready:  # carry the fitted model one step further
            season, base = self.season.pop(0), self.level + self.phi * self.trend
            level = self.alpha * (value - season) + (1 - self.alpha) * base
            self.trend = self.beta * (level - self.level) + (1 - self.beta) * self.phi * self.trend
            self.season.append(self.gamma * (value - base) + (1 - self.gamma) * season)
            self.level = level
        super().learn(value, real)


class AdtkSeasonal(Refitted):
    """SeasonalAD fitted daily; its default limit of 3.0 gives far more false alarms than 5.0."""

    fits_per_week = 7

    def fit(self, recent):
        self.detector, self.next = SeasonalAD(freq=self.period, c=5.0), len(recent) - 1
        self.detector.fit(pd.Series(recent, HOURS[: len(recent)]))

    def forecast(self):
        self.next += 1
        return self.detector.seasonal_.iloc[self.next % self.period]

    def judge(self, value):
        one = pd.Series([value], HOURS[self.next : self.next + 1])
        return self.ready and bool(self.detector.detect(one).iloc[0])


def flag(detector, values, missing, period):
    """Flag values in turn. A flagged one is learned as expected, not as it was, unless values have
    been flagged for a day, or those of one and two weeks ago were flagged too."""
    flags, row = np.zeros(len(values), bool), 0
    for i, value in enumerate(values):
        for _ in range(missing[i]):
            detector.predict()
            detector.learn(detector.expected, real=False)
        detector.predict()
        flags[i] = detector.judge(value)
        row = row + 1 if flags[i] else 0
        doubted = 0 < row <= max(period // 7, 3)
        usual = i >= 2 * period and flags[i - period] and flags[i - 2 * period]
        detector.learn(detector.expected if doubted and not usual else value, real=not doubted)
    return flags


def rescale(values, early):
    """Logarithms of counts, whose noise grows with them; other values in standard deviations."""
    if early.min() >= 0 and np.median(early) >= 1 and np.all(early == np.round(early)):
        return np.log1p(np.maximum(values, 0))
    return (values - early.mean()) / (early.std() or 1.0)


def run(path, make, warm_up):
    """Return the numbers of incidents, found incidents, false alarms and judged days of a file."""
    table = pd.read_csv(path, parse_dates=["time"])
    since, gaps, values = table.time - table.time[0], table.time.diff(), table.value.to_numpy(float)
    judged, step = (since >= warm_up).to_numpy(), gaps.median()
    if not judged.any():
        return 0, 0, 0, 0.0
    period = round(pd.Timedelta(days=7) / step)
    missing = (gaps / step).round().fillna(1).clip(lower=1).astype(int) - 1
    flags = flag(make(period), rescale(values, values[~judged]), missing, period)[judged]
    incidents = table.incident.fillna(-1).to_numpy(int)[judged]
    known = incidents >= 0
    near = np.convolve(known, [1, 1, 1])[: len(known)] > 0
    runs, last = [], -9
    for i in np.flatnonzero(flags):
        if i - last > 2:
            runs.append(False)
        runs[-1] |= near[i]
        last = i
    days = max(since.iloc[-1] - warm_up, pd.Timedelta(0)) / pd.Timedelta(days=1)
    return len(set(incidents[known])), len(set(incidents[known & flags])), runs.count(False), days


def main(folder, days=28):
    warnings.simplefilter("ignore")
    paths = sorted(Path(folder).glob("*.csv"), key=lambda path: path.name.partition("-")[::2])
    for group, members in groupby(paths, key=lambda path: path.stem.partition("-")[0]):
        members = list(members)
        for name, make in DETECTORS.items():
            start = time.perf_counter()
            counts = [run(path, make, pd.Timedelta(days=float(days))) for path in members]
            incidents, found, alarms, total = map(sum, zip(*counts))
            line = {"group": group, "detector": name, "incidents": incidents, "found": found}
            line |= {"false_alarms": alarms, "series_days": round(total, 1)}
            line["false_alarms_per_day"] = round(alarms / total, 5) if total else None
            line["seconds"] = round(time.perf_counter() - start, 1)
            print(json.dumps(line), flush=True)


DETECTORS = {"river": RiverGaussian, "statsmodels": StatsmodelsSmoothing, "adtk": AdtkSeasonal}

if __name__ == "__main__":
    main(*sys.argv[1:])
