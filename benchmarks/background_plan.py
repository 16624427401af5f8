"""How many events make a background good to an efficiency: ``python benchmarks/background_plan.py PILOT [--goal 1=1e-3,2a=1e-2,2b=1e-3]``.

PILOT is a folder of ``serendip simulate channel`` with a few thousand generated events of each file. An efficiency eps is reliable if no
generated event carries more weight than all that may pass the cut, and ten effective events are behind it (docs/theory-merits.md). With
B events of background in the channel at 10/fb, the part f of them in the test, and d_i = sigma_i L, of which the fraction k of the measurements
of an event of file i is in the channel,

    N_i >= d_i max(k) / (eps f B),    N_i >= lambda d_i sqrt(<k^2> / t_i),    sum_i d_i^2 <k^2> / N_i = eps f B^2 / 10

with the time t_i of a generated event: the second line shares out the events at the least cost (Neyman 1934). Files without an event in the
channel are taken with one measurement in the first. Printed are N_i, the time of one core, what is in the channel then, and commands. What the pilot
has not seen is not in the plan: repeat it with the sample that it gave.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from serendip.events.objects_parquet import read_parquet
from serendip.simulate.channel import LUMINOSITY, read_settings
from serendip.simulate.processes import PROCESSES
from serendip.theories.selection import ChannelSelection

CHANNELS = {sample.name: sample.channels for process in PROCESSES.values() for sample in process.samples()}

_EVENTS = 10  # effective events behind a reliable cut


def copies(folder: Path, name: str, channels: list[str]) -> dict[str, np.ndarray]:
    """Fraction of the measurements in each channel of every generated event that is in it."""
    events = read_parquet(folder / f"{name}.parquet")
    if not len(events):
        return {channel: np.zeros(0) for channel in channels}
    _, masks = ChannelSelection(tuple(channels))(events)
    rows = np.unique(events.event_id, return_inverse=True)[1]
    # all events of a file would have this weight if each generated event had a single measurement
    full = read_settings(folder)["samples"][name]
    share = events.weight / (full["weight"] * full["smearings"])
    sums = {c: np.bincount(rows[mask], share[mask]) for c, mask in masks.items()}
    return {c: values[values > 0] for c, values in sums.items()}


def seconds(folder: Path, name: str) -> float:
    """CPU time of a generated event."""
    facts = [json.loads(path.read_text()) for path in (folder / ".parts" / name).glob("*.json")]
    return float(sum(f["cpu_s"] for f in facts) / sum(f["generated"] for f in facts))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pilot", type=Path)
    parser.add_argument("--goal", default="1=1e-3,2a=1e-2,2b=1e-3")
    parser.add_argument("--test-fraction", type=float, default=0.4)
    given = parser.parse_args()
    goal = {c: float(e) for c, e in (part.split("=") for part in given.goal.split(","))}
    facts: dict[str, Any] = {
        name: entry for name, entry in read_settings(given.pilot)["samples"].items() if "generated" in entry
    }
    found = {name: copies(given.pilot, name, list(goal)) for name in facts}
    cost = {name: seconds(given.pilot, name) for name in facts}
    size = {n: e["cross_section_pb"] * 1e3 * LUMINOSITY for n, e in facts.items()}
    single = {n: 1 / max(e["smearings"], e.get("rare_smearings", 0)) for n, e in facts.items()}
    expected = {n: {c: size[n] * found[n][c].sum() / facts[n]["generated"] for c in goal} for n in facts}
    total = {c: sum(expected[n][c] for n in facts) for c in goal}
    squares = {n: {c: float(np.sum(found[n][c] ** 2)) / facts[n]["generated"] for c in goal} for n in facts}
    asked = dict.fromkeys(facts, 0.0)
    for c, epsilon in goal.items():
        behind = epsilon * given.test_fraction * total[c]
        share = {n: size[n] * np.sqrt(squares[n][c] / cost[n]) for n in facts}
        scale = sum(size[n] * np.sqrt(squares[n][c] * cost[n]) for n in facts) * _EVENTS / (behind * total[c])
        for n in facts:
            if c in CHANNELS[n] or found[n][c].size:
                heaviest = size[n] * found[n][c].max(initial=single[n]) / behind
                asked[n] = max(asked[n], heaviest, scale * share[n])
    needed = {n: int(np.ceil(value / 1000) * 1000) for n, value in asked.items()}
    time = {n: number * cost[n] / 3600 for n, number in needed.items()}
    print(
        f"{'file':26}{'pilot':>9}{'needed':>11}{'core hours':>12}"
        + "".join(f"{f'{c}: events':>16}{'share':>7}" for c in goal)
    )
    for name in sorted(needed, key=lambda n: -time[n]):
        entry = facts[name]
        row = f"{name:26}{entry['generated']:9d}{needed[name]:11d}{time[name]:12.2f}"
        for c in goal:
            n = found[name][c].size * needed[name] / entry["generated"]
            row += f"{n:16.0f}{expected[name][c] / total[c]:7.1%}"
        print(row)
    print(
        f"{'all':26}{sum(e['generated'] for e in facts.values()):9d}{sum(needed.values()):11d}{sum(time.values()):12.1f}"
    )
    for c, epsilon in goal.items():
        variance = sum(size[n] ** 2 * squares[n][c] / max(needed[n], 1) for n in facts)
        effective = total[c] ** 2 / variance
        print(
            f"channel {c}: {total[c]:.0f} events at {LUMINOSITY:g}/fb, as good as {effective:.0f} of equal weight, "
            f"{effective * given.test_fraction * epsilon:.0f} of the test behind eps_B = {epsilon:g}"
        )
    for name in sorted(needed, key=lambda n: -time[n]):
        if needed[name] > facts[name]["generated"]:
            print(
                f"serendip simulate channel --process {name} --events 100000000 --max-generated {needed[name]} --out SAMPLES/SM"
            )


if __name__ == "__main__":
    main()
