"""Simulated samples of the Dark Machines format: Standard Model processes and theories of new physics.

Events are made in chunks of a fixed number of generated events. Chunk *k* of a sample is a function of the settings and *k* alone
and is kept in the hidden folder ``.parts`` of the output; so the result depends neither on the number of processes nor on
interruptions, and more events can be requested later.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from serendip.errors import InputError
from serendip.events.darkmachines_write import write_events
from serendip.events.objects import ObjectEvents, concatenate
from serendip.events.objects_parquet import read_parquet, write_parquet
from serendip.io.files import make_folder
from serendip.io.json import jsonable, load_json, read_json, write_json
from serendip.simulate.chunks import Counted, run_chunks
from serendip.simulate.fast_detector import CARDS, MET_KINDS, MetKind, measure
from serendip.simulate.processes import Sample
from serendip.simulate.pythia import make_pythia, pythia_version
from serendip.simulate.record import generate_record
from serendip.simulate.slha import slha_file
from serendip.statistics.pvalues import binomial_interval
from serendip.version import __version__

__all__ = ["LUMINOSITY", "SampleResult", "Selection", "SimulateConfig", "read_settings", "simulate_samples"]

Mask = NDArray[np.bool_]
Progress = Callable[[str, int, int, int], None]

LUMINOSITY = 10.0
"""Integrated luminosity (1/fb) to which the weights belong (arXiv:2105.14027, equation 2.6)."""

_BATCH = 250
_PB_PER_MB = 1e9
_FB_PER_PB = 1e3


class Selection(Protocol):
    """Cleans objects and selects the events of each channel; must survive the way to another process."""

    @property
    def channels(self) -> Sequence[str]:
        """Names of the channels."""

    @property
    def min_met(self) -> float:
        """Missing momentum (GeV) that an event in any channel has at least."""

    def only(self, channels: Sequence[str]) -> Selection:
        """The same for some of the channels."""

    def __call__(self, events: ObjectEvents) -> tuple[ObjectEvents, Mapping[str, Mask]]:
        """Events with clean objects (all events, in order) and a mask ``(n_events,)`` for each channel."""

    def to_dict(self) -> dict[str, Any]:
        """The requirements, as JSON-able values."""


@dataclass(frozen=True)
class SimulateConfig:
    """How samples are made.

    Attributes
    ----------
    events
        Selected events of each sample.
    seed
        Same seed, same events.
    max_generated
        A sample stops after this many generated events. The last chunk ends with the batch that reaches the number; further events are kept for a later call that allows more.
    chunk
        Generated events of the largest chunks; the first ones are smaller, so that a short run is fast.
    mpi
        Multiparton interactions.
    met
        See :func:`serendip.simulate.fast_detector.measure`.
    card
        One of :data:`serendip.simulate.fast_detector.CARDS`.
    """

    events: int
    seed: int = 1
    max_generated: int = 1_000_000
    chunk: int = 2000
    mpi: bool = False
    met: MetKind = "measured"
    card: str = "darkmachines"

    def __post_init__(self) -> None:
        for name, least in (("events", 1), ("seed", 0), ("max_generated", 1), ("chunk", 1)):
            if getattr(self, name) < least:
                raise InputError(f"{name} is {getattr(self, name)}; expected at least {least}")
        if self.met not in MET_KINDS:
            raise InputError(f"met '{self.met}'; expected {' or '.join(MET_KINDS)}")
        if self.card not in CARDS:
            raise InputError(f"card '{self.card}'; expected {' or '.join(CARDS)}")

    def chunk_size(self, index: int) -> int:
        """Generated events of chunk ``index``."""
        return min(self.chunk, _BATCH << min(index, 30))

    def first_event(self, index: int) -> int:
        """Number of the first event of chunk ``index``."""
        return sum(self.chunk_size(k) for k in range(index))

    def to_dict(self) -> dict[str, Any]:
        """Settings that determine the events; more events can be requested later."""
        return {
            "seed": self.seed,
            "chunk": self.chunk,
            "mpi": self.mpi,
            "met": self.met,
            "card": self.card,
            "detector": asdict(CARDS[self.card]),
        }


@dataclass(frozen=True)
class SampleResult:
    """Outcome of a sample.

    Attributes
    ----------
    name, process
        Name of the file and process ID of its events.
    events
        Selected events in the file.
    generated
        Generated events up to the last selected one, or all if the sample stopped early.
    smearings, rare_channels, rare_smearings
        How often each generated event was measured, and how often for these channels.
    selected
        Events of the file in each channel.
    cross_section_pb, cross_section_error_pb
        Before any selection, leading order, with its Monte Carlo error; branching ratios of forced decays included.
    acceptance, acceptance_interval
        Probability that a generated event is selected, with its 68 % interval.
    weight
        Weight of each event at 10/fb; those in ``rare_channels`` have ``smearings / rare_smearings`` of it.
    complete
        False if ``max_generated`` stopped it.
    """

    name: str
    process: str
    events: int
    generated: int
    smearings: int
    rare_channels: tuple[str, ...]
    rare_smearings: int
    selected: Mapping[str, int]
    cross_section_pb: float
    cross_section_error_pb: float
    acceptance: float
    acceptance_interval: tuple[float, float]
    weight: float
    complete: bool

    def to_dict(self) -> dict[str, Any]:
        """Give everything as JSON-able values."""
        return asdict(self)


@dataclass(frozen=True)
class _Chunk:
    sample: Sample
    index: int
    config: SimulateConfig
    selection: Selection
    folder: str


def simulate_samples(
    folder: Path | str,
    samples: Sequence[Sample],
    selection: Selection,
    config: SimulateConfig,
    *,
    jobs: int = 1,
    progress: Progress | None = None,
) -> list[SampleResult]:
    r"""Simulate samples; one CSV file of the Dark Machines format and one Parquet file for each.

    The weight of every event of a sample is

    .. math:: w = \frac{\sigma \, L}{N_{gen}}, \qquad L = 10/\mathrm{fb},

    where :math:`N_{gen}` counts measured events, selected or not; the sum of the weights of a file is the number of events expected at
    that luminosity (arXiv:2105.14027, equation 2.6). Events in a channel for which the sample is measured more often have smaller weights.
    ``settings.json`` holds all settings, cross sections and numbers.

    The same call after an interruption continues; a later call may request more events or more samples. The
    same arguments give the same bytes for any ``jobs``.

    Parameters
    ----------
    folder
        Output folder.
    samples
        From :mod:`serendip.simulate.processes` or :mod:`serendip.simulate.catalogue.points`.
    selection
        An event is selected if it is in at least one of its channels.
    config
        How.
    jobs
        Number of processes.
    progress
        Called with the name of a sample and its numbers of selected, wanted and generated events.

    Returns
    -------
    list of SampleResult
        In the order of ``samples``.

    Raises
    ------
    InputError
        If a sample is named twice, the folder holds files of other settings or cannot be written, or Pythia or FastJet is not installed
        or refuses a setting.
    """
    folder = Path(folder)
    names = [sample.name for sample in samples]
    twice = sorted({name for name in names if names.count(name) > 1})
    if not samples or twice:
        raise InputError(f"samples given twice: {', '.join(twice)}" if twice else "no samples given")
    if jobs < 1:
        raise InputError(f"{jobs} jobs: at least 1 is needed")
    common = {
        **config.to_dict(),
        "luminosity_fb": LUMINOSITY,
        "selection": selection.to_dict(),
        "versions": {"serendip": __version__, "pythia8mc": pythia_version()},
    }
    record = _open(folder, common, samples)

    def make(sample: Sample, index: int) -> _Chunk:
        return _Chunk(sample, index, config, selection, str(_parts(folder, sample)))

    done = {sample.name: _finished(_parts(folder, sample), config) for sample in samples}
    report = progress or (lambda _name, _selected, _wanted, _generated: None)
    out: dict[str, SampleResult] = {}

    def finish(sample: Sample, chunks: int) -> None:
        out[sample.name] = _merge(folder, sample, chunks, selection, config)
        record["samples"][sample.name] |= out[sample.name].to_dict()
        write_json(folder / "settings.json", record)

    run_chunks(
        samples,
        make,
        _make_chunk,
        done,
        finish,
        wanted=config.events,
        max_generated=config.max_generated,
        first=config.first_event,
        jobs=jobs,
        progress=report,
    )
    return [out[sample.name] for sample in samples]


def read_settings(folder: Path | str) -> dict[str, Any]:
    """Read ``settings.json`` of a folder of :func:`simulate_samples`.

    Raises
    ------
    InputError
        If it is missing or damaged.
    """
    path = Path(folder) / "settings.json"
    return read_json(
        path,
        missing="expected a folder of 'serendip simulate channel'",
        damaged="restore it or choose another folder",
    )


def _open(folder: Path, common: dict[str, Any], samples: Sequence[Sample]) -> dict[str, Any]:
    """The record of the folder, with the samples added."""
    common = jsonable(common)
    path = folder / "settings.json"
    record: dict[str, Any] = {"schema": 1, "settings": common, "samples": {}}
    if path.exists():
        record = read_settings(folder)
        wrong = [key for key in common if record["settings"].get(key) != common[key]]
        if wrong:
            raise InputError(
                f"{folder}: holds samples made with other settings ({', '.join(wrong)}); "
                "repeat those, choose another folder or delete it"
            )
    for sample in samples:
        facts = {"pythia": sample.settings, "slha": sample.slha, "smearings": sample.smearings}
        facts |= {"rare_channels": sample.rare_channels, "rare_smearings": sample.rare_smearings}
        facts = jsonable(facts)
        known = record["samples"].setdefault(sample.name, facts)
        # folders made before some samples were measured more often for rare channels do not record it
        older = {"rare_channels": [], "rare_smearings": 0} | known
        if any(older[key] != value for key, value in facts.items()):
            raise InputError(
                f"{folder}: sample '{sample.name}' was made with other Pythia settings or numbers of measurements; choose another folder"
            )
    make_folder(folder, "")
    write_json(path, record)
    for sample in samples:
        _parts(folder, sample).mkdir(parents=True, exist_ok=True)
    return record


def _parts(folder: Path, sample: Sample) -> Path:
    return folder / ".parts" / sample.name


def _finished(parts: Path, config: SimulateConfig) -> dict[int, Counted]:
    """Chunks that an earlier call finished; those that are damaged, or that a smaller ``max_generated`` cut short, are made again."""
    out = {}
    for path in parts.glob("*.json"):
        try:
            facts, index = load_json(path), int(path.stem)
            tried = int(facts["generated"]) + int(facts["failed"])
            if tried >= config.chunk_size(index) or config.first_event(index) + tried >= config.max_generated:
                out[index] = Counted(int(facts["generated"]), int(facts["selected"]), tried)
        except (ValueError, KeyError, TypeError):
            continue
    return out


def _make_chunk(chunk: _Chunk) -> Counted:
    sample, config = chunk.sample, chunk.config
    started = time.process_time()
    sequence = np.random.SeedSequence([config.seed, zlib.crc32(sample.name.encode()), chunk.index])
    with slha_file(sample.slha) as lines:
        pythia = make_pythia([*lines, *sample.settings], int(sequence.generate_state(1)[0]), mpi=config.mpi)
    rng = np.random.default_rng(sequence.spawn(1)[0])
    first, wanted = config.first_event(chunk.index), config.chunk_size(chunk.index)
    generated = tried = 0
    parts: list[ObjectEvents] = []
    while tried < wanted and first + tried < config.max_generated:
        size = min(_BATCH, wanted - tried)
        record = generate_record(pythia, size)
        for selection, times in _measurements(sample, chunk.selection):
            events = measure(
                record,
                rng,
                process=sample.process,
                first_id=first + generated,
                met=config.met,
                detector=CARDS[config.card],
                smearings=times,
                min_met=selection.min_met,
            )
            cleaned, masks = selection(events)
            parts.append(cleaned.select(np.logical_or.reduce(list(masks.values()))))
        tried += size
        generated += len(record)
    info = pythia.infoPython()
    events = concatenate(parts)
    # by generated event, so that a sample can end after any of them
    events = events.select(np.argsort(events.event_id.astype(np.int64), kind="stable"))
    path = Path(chunk.folder) / f"{chunk.index:06d}.parquet"
    write_parquet(events, path)
    facts = {
        "generated": generated,
        "failed": tried - generated,
        "selected": len(events),
        "cross_section_pb": info.sigmaGen() * _PB_PER_MB,
        "cross_section_error_pb": info.sigmaErr() * _PB_PER_MB,
        "cpu_s": round(time.process_time() - started, 3),
    }
    # its presence marks the chunk as complete
    write_json(path.with_suffix(".json"), facts)
    return Counted(generated, len(events), tried)


def _measurements(sample: Sample, selection: Selection) -> list[tuple[Selection, int]]:
    """Which channels are filled by how many measurements of an event."""
    rare = tuple(name for name in selection.channels if name in sample.rare_channels)
    if not rare:
        return [(selection, sample.smearings)]
    return [(selection, sample.smearings), (selection.only(rare), sample.rare_smearings - sample.smearings)]


def _merge(
    folder: Path, sample: Sample, chunks: int, selection: Selection, config: SimulateConfig
) -> SampleResult:
    parts = _parts(folder, sample)
    facts = [read_json(parts / f"{k:06d}.json") for k in range(chunks)]
    events = concatenate([read_parquet(parts / f"{k:06d}.parquet") for k in range(chunks)])
    firsts = np.array([config.first_event(k) for k in range(chunks)], dtype=np.int64)
    numbers = np.array([fact["generated"] for fact in facts], dtype=np.int64)
    # the last batch may reach beyond the cap
    numbers = np.minimum(numbers, config.max_generated - firsts)
    events = events.select(events.event_id.astype(np.int64) < config.max_generated)
    generated = int(numbers.sum())
    complete = len(events) >= config.events
    if complete:
        events = events.select(np.arange(config.events))
        # numbers of events skip those that Pythia failed to make
        last = int(events.event_id[-1])
        place = int(np.searchsorted(firsts, last, side="right")) - 1
        generated = int(numbers[:place].sum()) + last - int(firsts[place]) + 1
    part = numbers / max(numbers.sum(), 1)
    sigma = float(np.sum(part * [fact["cross_section_pb"] for fact in facts]))
    error = float(np.sqrt(np.sum((part * [fact["cross_section_error_pb"] for fact in facts]) ** 2)))
    measured = generated * sample.smearings
    weight = sigma * _FB_PER_PB * LUMINOSITY / measured if measured else 0.0
    _, masks = selection(events)
    rare = np.zeros(len(events), dtype=bool)
    for name in sample.rare_channels:
        rare |= masks.get(name, False)
    share = np.where(rare, sample.smearings / max(sample.rare_smearings, 1), 1.0)
    events = ObjectEvents(**{**_columns(events), "weight": weight * share})
    write_events(events, folder / f"{sample.name}.csv")
    write_parquet(events, folder / f"{sample.name}.parquet")
    low, high = binomial_interval(share.sum(), measured) if measured else (0.0, 1.0)
    return SampleResult(
        name=sample.name,
        process=sample.process,
        events=len(events),
        generated=generated,
        smearings=sample.smearings,
        rare_channels=sample.rare_channels,
        rare_smearings=sample.rare_smearings,
        selected={name: int(np.count_nonzero(mask)) for name, mask in masks.items()},
        cross_section_pb=sigma,
        cross_section_error_pb=error,
        acceptance=float(share.sum()) / measured if measured else 0.0,
        acceptance_interval=(float(low), float(high)),
        weight=weight,
        complete=complete,
    )


def _columns(events: ObjectEvents) -> dict[str, Any]:
    return {name: getattr(events, name) for name in ObjectEvents.__dataclass_fields__}
