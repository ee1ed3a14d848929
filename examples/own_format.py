# %% [markdown]
# # Read a format of your own
# A recorder writes lines `ms;Q;bid;ask;size;size` and `ms;T;price;shares`, milliseconds since midnight in Berlin. One
# class delivers its ticks in parts, one line registers it; bad lines are counted, never used.

# %%
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from crosswind.problems import market as mk

WIDTH = {"Q": 6, "T": 4}


# %%
class Recorded:  # one file NAME_2024-03-04.txt
    venue, tz, currency, tick = "my recorder", "Europe/Berlin", "EUR", 0.01

    def __init__(self, path):
        self.path, (self.name, _, day) = path, path.stem.partition("_")
        self.midnight = pd.Timestamp(day, tz=self.tz).value

    def chunks(self, report, progress=None):
        report.file(self.path, self.path.stat().st_size)
        facts = report.instrument(self.name, self.venue, "ticks", clock="ms since midnight in Berlin", stamp="event")
        with self.path.open() as file:
            while lines := [line.strip().split(";") for _, line in zip(range(5_000), file, strict=False)]:
                good = [w for w in lines if len(w) == WIDTH.get("".join(w[1:2]))]
                report.bad(self.path, "unreadable line", len(lines) - len(good))
                quotes, trades = (np.array([w[:1] + w[2:] for w in good if w[1] == k], dtype=float) for k in "QT")
                quotes, trades = quotes.reshape(-1, 5), trades.reshape(-1, 3)
                known, time = (self.midnight + (t[:, 0] * 1e6).astype(np.int64) for t in (quotes, trades))
                for kind, when in (("quotes", known), ("trades", time)):
                    facts.saw(kind, len(when), *when[[0, -1]] if len(when) else ())
                signable = np.ones(len(time), dtype=bool)  # no side in the file: signed by Lee and Ready
                tapes = mk.TradeTape(time, *trades[:, 1:].T, signable), mk.QuoteTape(known, *quotes[:, 1:].T)
                yield mk.TickChunk(*tapes)


# %%
def sources(path, names=None, days=None):
    return tuple(s for s in map(Recorded, sorted(Path(path).glob("*.txt"))) if names is None or s.name in names)


def reader(path, names=None, days=None, bucket_s=10.0, *, report, progress=None):
    grid = {"bucket_s": bucket_s, "hours": ("09:00", "09:10"), "tz": "Europe/Berlin", "currency": "EUR"}
    events, notes = mk.events_of(sources(path, names), **grid, days=days, report=report, progress=progress)
    return mk.MarketData(events, source=f"mine:{path}", notes=notes)


mk.register_format(mk.Format("mine", "what my recorder writes", "mine:DIR", reader, sources))

# %%
folder, rng = Path(tempfile.mkdtemp()), np.random.default_rng(0)
for name in ("AAA", "BBB"):
    text, mid = ["32390000;Q;49.99;50.01;500;400"], 50.0
    for ms in range(32_400_000, 33_000_000, 2_000):
        mid += 0.01 * rng.integers(-1, 2)
        text.append(f"{ms};Q;{mid - 0.01:.2f};{mid + 0.01:.2f};500;400")
        text.append(f"{ms};T;{mid + 0.01 * rng.choice([-1, 1]):.2f};100")
    cut = "33000000;T\n"  # the recorder stopped in the middle of a line
    (folder / f"{name}_2024-03-04.txt").write_text("\n".join([*text, cut]))
print(mk.describe(f"mine:{folder}", bucket_s=60.0))
print(next(mk.stream(f"mine:{folder}", rows=6)))
