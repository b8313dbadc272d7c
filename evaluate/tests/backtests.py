"""Runs backtesting.py on its own data, with positions that Thrum decided.

`backtests.py bars NAME` prints a data set as CSV. `backtests.py run` reads one JSON object per line, with the data set,
the cost per traded amount, and the position to hold from the open of each bar on (1, 0 or -1), and prints the total return.
"""

import json
import sys
import warnings

warnings.filterwarnings("ignore")
import backtesting.test as data
from backtesting import Backtest, Strategy

# So much money that whole units are as good as fractions of them.
CASH = 1e13


class Positions(Strategy):
    sides = None

    def init(self):
        pass

    def next(self):
        # An order is filled at the next open.
        i = len(self.data)
        side = self.sides[i] if i < len(self.sides) else self.side
        if side == self.side:
            return
        self.side = side
        if side == 0:
            self.position.close()
        elif side > 0:
            self.buy()
        else:
            self.sell()

    side = 0


def run(case):
    frame = getattr(data, case["data"])
    positions = type("Case", (Positions,), {"sides": case["sides"]})
    test = Backtest(frame, positions, cash=CASH, commission=case["cost"], exclusive_orders=True)
    return test.run()["Equity Final [$]"] / CASH - 1


def bars(name):
    frame = getattr(data, name)
    print("time,open,high,low,close,volume")
    for time, row in frame.iterrows():
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ")
        print(f"{stamp},{row.Open},{row.High},{row.Low},{row.Close},{row.Volume}")


if sys.argv[1] == "bars":
    bars(sys.argv[2])
else:
    for line in sys.stdin:
        print(run(json.loads(line)), flush=True)
