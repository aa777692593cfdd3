"""The days on which `tests/run --calendar` runs the tests: a name, when, and a zone, one a line.

`+8d` is added to today's time; `@SECONDS` is a moment (Unix time) in the middle of the tests.
"""

from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

ZONE = "Europe/Berlin"


def changes(count):
    """The next moments at which the zone's distance from UTC changes."""
    zone, hour = ZoneInfo(ZONE), timedelta(hours=1)
    at = datetime.now(timezone.utc).replace(minute=0, second=0, microsecond=0) + hour
    while count:
        before, after = ((at + shift).astimezone(zone).utcoffset() for shift in (-hour, timedelta()))
        if before != after:
            yield at
            count -= 1
        at += hour


print("in_8_days +8d UTC")
print("in_400_days +400d UTC")
for at in changes(2):
    print(f"across_the_change_of_{at.astimezone(ZoneInfo(ZONE)):%Y-%m-%d} @{int(at.timestamp())} {ZONE}")
