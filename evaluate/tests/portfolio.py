"""Computes portfolios and walk-forwards with pandas, independently of Thrum's code.

Reads one JSON object per line and prints one per line. Each has:

- `series`: by name, its `weight` and a list of bars `[time, open, close, end, side]`: the times in milliseconds at which the
  bar opens and closes, and the side (1, 0 or -1) to hold from its open on;
- `cost` per traded amount, `sizing` (`{"fraction": x}`, `{"fixed": x}` or `{"volatility": {"target": x, "bars": n}}`), and
  `year`, the rows per year; for volatility also `years`, the bars per year by series, and `before`, the closes before the
  first bar by series;
- optionally `benchmark`: bars like those above;
- optionally `walk`: `train`, `test`, and `sides`, for each combination the sides by series.
"""

import json
import math
import sys

import numpy as np
import pandas as pd


def frame(bars):
    columns = ["time", "open", "close", "end", "side"]
    return pd.DataFrame(bars, columns=columns).set_index("time")


def fractions(case, name, bars):
    """The fraction of the equity to invest at each bar."""
    if "volatility" not in case["sizing"]:
        return pd.Series(1.0, index=bars.index)
    target, n = case["sizing"]["volatility"]["target"], case["sizing"]["volatility"]["bars"]
    closes = pd.concat([pd.Series(case["before"][name]), bars["close"]], ignore_index=True)
    spread = closes.pct_change().rolling(n).std() * math.sqrt(case["years"][name])
    # What is known at a bar's open ends with the close before it.
    known = spread.shift(1).iloc[len(case["before"][name]) :]
    return pd.Series(np.minimum(1.0, target / known.to_numpy()), index=bars.index)


def trade(case, bars, sides, cost):
    """The equity after each row, and the trades."""
    times = sorted(set().union(*(of.index for of in bars.values())))
    opens = pd.DataFrame({name: of["open"] for name, of in bars.items()}).reindex(times)
    wanted = pd.DataFrame({name: pd.Series(sides[name], index=of.index) for name, of in bars.items()}).reindex(times)
    shares = {name: fractions(case, name, of) for name, of in bars.items()}
    cash, units, price, equity, trades = 1.0, {}, {}, [], []
    entered = {}
    ends = [(row.end, name, row.close) for name, of in bars.items() for row in of.itertuples()]
    ends.sort()
    for i, time in enumerate(times):
        here = [name for name in bars if not math.isnan(opens.at[time, name])]
        for name in here:
            price[name] = opens.at[time, name]
            held = units.get(name, 0.0)
            if held != 0.0 and np.sign(held) != wanted.at[time, name]:
                got = held * price[name]
                fee = abs(got) * cost
                cash += got - fee
                trades.append((entered[name][0], got - fee - entered[name][1]))
                units[name] = 0.0
        total = cash + sum(units.get(name, 0.0) * price[name] for name in price)
        free = max(0.0, total - sum(abs(units.get(name, 0.0)) * price[name] for name in price))
        buys = {}
        for name in here:
            if wanted.at[time, name] != 0 and units.get(name, 0.0) == 0.0:
                sizing, weight = case["sizing"], case["series"][name]["weight"]
                if "fixed" in sizing:
                    buys[name] = weight * sizing["fixed"]
                elif "fraction" in sizing:
                    buys[name] = weight * sizing["fraction"] * total
                else:
                    buys[name] = weight * shares[name].at[time] * total
        asked = sum(buys.values())
        for name, amount in buys.items():
            amount *= min(1.0, free / asked) if asked > 0 else 1.0
            bought = wanted.at[time, name] * amount / price[name] / (1 + cost)
            units[name] = bought
            paid = bought * price[name] + abs(bought) * price[name] * cost
            cash -= paid
            entered[name] = (amount, paid)
        # What closes before the next row begins is known then.
        following = times[i + 1] if i + 1 < len(times) else math.inf
        while ends and ends[0][0] <= following:
            _, name, close = ends.pop(0)
            price[name] = close
        equity.append(cash + sum(units.get(name, 0.0) * price[name] for name in price))
    for name, held in units.items():
        if held != 0.0:
            trades.append((entered[name][0], held * price[name] - entered[name][1]))
    return times, pd.Series(equity, index=times), trades


def figures(returns, year):
    equity = (1 + returns).cumprod()
    high = equity.cummax().clip(lower=1.0)
    spread = returns.std(ddof=1) * math.sqrt(year)
    return {
        "total_return": equity.iloc[-1] - 1,
        "volatility": spread,
        "sharpe": returns.mean() * year / spread if spread > 0 else None,
        "sortino": returns.mean() * year / (math.sqrt((returns.clip(upper=0) ** 2).mean()) * math.sqrt(year)),
        "max_drawdown": min(0.0, (equity / high - 1).min()),
    }


def returns_of(equity):
    return (equity / equity.shift(1, fill_value=1.0)) - 1


def run(case):
    bars = {name: frame(of["bars"]) for name, of in case["series"].items()}
    own = {name: of["side"].tolist() for name, of in bars.items()}
    times, equity, trades = trade(case, bars, own, case["cost"])
    returns = returns_of(equity)
    result = figures(returns, case["year"])
    result["win_rate"] = float(np.mean([gain > 0 for _, gain in trades]))
    held = trade({**case, "sizing": {"fraction": 1.0}}, bars, {name: [1] * len(of) for name, of in bars.items()}, 0.0)[1]
    result["held"] = figures(returns_of(held), case["year"])["total_return"]
    if "benchmark" in case:
        other = frame(case["benchmark"])
        closed = sorted(set().union(*(of["end"] for of in bars.values())))
        ends = []
        for time, following in zip(times, times[1:] + [math.inf]):
            before = [end for end in closed if end <= following]
            ends.append(before[-1] if before and before[-1] >= time else following)
        value = pd.Series(other["close"].to_numpy(), index=other["end"])
        known = [value[value.index <= end] for end in ends]
        first = other["open"].get(times[0], default=None)
        if first is None:
            first = other[other["end"] <= times[0]]["close"].iloc[-1]
        path = pd.Series([of.iloc[-1] for of in known], index=times)
        benchmark = path / path.shift(1, fill_value=first) - 1
        result["benchmark"] = figures(benchmark, case["year"])["total_return"]
        result["correlation"] = returns.corr(benchmark)
        result["beta"] = returns.cov(benchmark) / benchmark.var()
    if "walk" in case:
        walk = case["walk"]
        train, test = walk["train"], walk["test"]
        net = [returns_of(trade(case, bars, sides, case["cost"])[1]) for sides in walk["sides"]]
        rows = {time: i for i, time in enumerate(times)}
        chosen = []
        for begin in range(train, len(times), test):
            before = [of.iloc[begin - train : begin] for of in net]
            scores = [of.mean() / of.std(ddof=1) if of.std(ddof=1) > 0 else 0.0 for of in before]
            chosen.append(int(np.argmax(scores)))
        sides = {}
        for name, of in bars.items():
            at = [rows[time] for time in of.index]
            sides[name] = [
                0 if row < train else walk["sides"][chosen[(row - train) // test]][name][i] for i, row in enumerate(at)
            ]
        after = returns_of(trade(case, bars, sides, case["cost"])[1]).iloc[train:]
        result["chosen"] = chosen
        result["walk"] = figures(after, case["year"])
    return result


for line in sys.stdin:
    print(json.dumps(run(json.loads(line))), flush=True)
