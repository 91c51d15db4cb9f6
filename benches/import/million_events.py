#!/usr/bin/env python3
"""How long does it take to import a million events? Writes files to find out with.

In the order of time, from a seeded generator: 100,000 viewers, 10,000 items of which few are much watched, sessions of ten
events of which 2,000 go on at a time, four regions.

    ids.ndjson          with ids of the kind of UUIDv7
    no_ids.ndjson       without ids: the import makes them
    no_sessions.ndjson  without sessions, too

Usage: million_events.py FOLDER
"""

import datetime
import json
import pathlib
import random
import sys

EVENTS, VIEWERS, ITEMS, OPEN_SESSIONS = 1_000_000, 100_000, 10_000, 2_000
KINDS = ["impression"] * 4 + ["click"] * 3 + ["play"] * 2 + ["progress"] * 2 + ["finish", "like", "skip"]


def main(folder: pathlib.Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    seeded = random.Random(2026)
    items = seeded.choices(range(ITEMS), [1 / (n + 1) ** 0.8 for n in range(ITEMS)], k=EVENTS)
    files = {name: (folder / f"{name}.ndjson").open("w") for name in ("ids", "no_ids", "no_sessions")}
    sessions: list[tuple[str, str, str]] = []
    begun, ms = 0, 1_767_225_600_000
    for item in items:
        ms += seeded.randrange(400)
        if len(sessions) < OPEN_SESSIONS or seeded.random() < 0.1:
            begun += 1
            viewer = f"user-{seeded.randrange(VIEWERS)}"
            session = (f"session-{begun}", viewer, seeded.choice(["de", "fr", "us", "br"]))
            if len(sessions) < OPEN_SESSIONS:
                sessions.append(session)
            else:
                sessions[seeded.randrange(OPEN_SESSIONS)] = session
        session, viewer, region = seeded.choice(sessions)
        at = datetime.datetime.fromtimestamp(ms / 1000, datetime.timezone.utc)
        row = {
            "type": seeded.choice(KINDS),
            "session_id": session,
            "user_id": viewer,
            "item_id": f"film-{item}",
            "occurred_at": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "region": region,
        }
        if row["type"] in ("progress", "finish"):
            row["position_s"] = round(seeded.random() * 3000, 1)
            row["watched_s"] = round(seeded.random() * 300, 1)
        digits = f"{ms << 16 | 0x7000 | seeded.getrandbits(12):016x}{2 << 62 | seeded.getrandbits(62):016x}"
        uuid = "-".join([digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]])
        write(files["ids"], {"event_id": uuid, **row})
        write(files["no_ids"], row)
        del row["session_id"]
        write(files["no_sessions"], row)
    for file in files.values():
        file.close()


def write(file, row: dict) -> None:
    file.write(json.dumps(row, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(pathlib.Path(sys.argv[1]))
