"""Answers cron cases with cronsim: lines of expression, zone and seconds since 1970, separated by tabs.

Prints the next run after that time in seconds since 1970, or `refused`. A time that lies before it, in the first
pass of a repeated hour, is left out.
"""

import sys
from datetime import datetime, timezone
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError


def answer(expression: str, zone: str, after: int) -> str:
    start = datetime.fromtimestamp(after, timezone.utc)
    if zone != "UTC":
        start = start.astimezone(ZoneInfo(zone))
    try:
        times = CronSim(expression, start)
        for time in times:
            seconds = int(time.timestamp())
            if seconds > after:
                return str(seconds)
    except CronSimError:
        pass
    return "refused"


for line in sys.stdin:
    expression, zone, after = line.rstrip("\n").split("\t")
    print(answer(expression, zone, int(after)))
