"""Acceptance, cross section and CPU time of the samples of ``serendip simulate channel``.

    python benchmarks/channel_speed.py [--events 400] [NAME ...]

One row for each sample: fraction of measured events in channels 1, 2a, 2b, 3 and in any of its own channels, cross section, events
expected at 10/fb, CPU time for each generated event and for each selected one.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from serendip.simulate.catalogue.points import known_samples
from serendip.simulate.fast_detector import measure
from serendip.simulate.processes import PROCESSES, samples_named
from serendip.simulate.pythia import make_pythia
from serendip.simulate.record import generate_record
from serendip.simulate.slha import slha_file
from serendip.theories.selection import ChannelSelection


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=400)
    parser.add_argument("names", nargs="*", default=list(PROCESSES))
    arguments = parser.parse_args()
    selection = ChannelSelection()
    print("| sample | 1 | 2a | 2b | 3 | any own | sigma pb | at 10/fb | ms/generated | ms/selected |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for sample in samples_named(arguments.names, known_samples(), ("1", "2a", "2b", "3")):
        with slha_file(sample.slha) as lines:
            pythia = make_pythia([*lines, *sample.settings], 1)
        rng = np.random.default_rng(1)
        start = time.process_time()
        record = generate_record(pythia, arguments.events)
        measured = measure(
            record, rng, process=sample.process, smearings=sample.smearings, min_met=selection.min_met
        )
        _, masks = selection(measured)
        own = np.logical_or.reduce([masks[name] for name in sample.channels])
        cpu = (time.process_time() - start) / len(record) * 1000
        fractions = np.array([mask.sum() for mask in (*masks.values(), own)]) / len(record) / sample.smearings
        sigma = pythia.infoPython().sigmaGen() * 1e9
        each = f"{cpu / fractions[-1] / sample.smearings:.1f}" if fractions[-1] else "-"
        numbers = " | ".join(f"{100 * value:.2f} %" for value in fractions)
        print(
            f"| {sample.name} | {numbers} | {sigma:.4g} | {sigma * 1e4 * fractions[-1]:.3g} | {cpu:.2f} | {each} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
