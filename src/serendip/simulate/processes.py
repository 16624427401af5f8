"""Standard Model processes available in Pythia 8, divided into samples by decay and by pT of the hard process.

The samples of a process do not overlap and together make up the process, so that their weights can be used together. Names of processes are
those of the public files (arXiv:2105.14027, table 1) where they exist.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType

from serendip.errors import InputError

__all__ = ["NOT_IN_PYTHIA", "PROCESSES", "Process", "Sample", "samples_named"]

ALL_CHANNELS = ("1", "2a", "2b", "3")


@dataclass(frozen=True)
class Sample:
    """Content of one output file.

    Attributes
    ----------
    name
        Name of the file.
    process
        Process ID of its events.
    settings
        Lines for Pythia.
    slha
        Text of a SUSY Les Houches file, or None.
    channels
        Channels in which it has a fair share of its events; elsewhere it is left out.
    smearings
        How often each generated event is measured.
    rare_channels, rare_smearings
        Channels in which events are rare, and how often it is measured for these.
    """

    name: str
    process: str
    settings: tuple[str, ...]
    channels: tuple[str, ...]
    slha: str | None = None
    smearings: int = 1
    rare_channels: tuple[str, ...] = ()
    rare_smearings: int = 0


@dataclass(frozen=True)
class Process:
    """A Standard Model process.

    Attributes
    ----------
    name, title
        Process ID, and its description.
    settings
        Lines for Pythia common to all samples.
    decays
        Short name -> lines and channels. The decays exclude each other and are complete; the empty name means all.
    pthat
        Edges (GeV) of the slices of the transverse momentum of the hard process; the last slice has no upper edge. Empty: no
        slices.
    pthat_channels
        Channels of the lowest slices, in order, where those are not those of the decay.
    smearings, rare_channels, rare_smearings
        See :class:`Sample`.
    """

    name: str
    title: str
    settings: tuple[str, ...]
    decays: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]
    pthat: tuple[float, ...] = ()
    pthat_channels: tuple[tuple[str, ...], ...] = ()
    smearings: int = 1
    rare_channels: tuple[str, ...] = ()
    rare_smearings: int = 0

    def samples(self) -> tuple[Sample, ...]:
        """All samples of this process."""
        out = []
        for decay, (lines, channels) in self.decays.items():
            for i in range(max(len(self.pthat), 1)):
                window, label = self._slice(i)
                mine = channels
                if i < len(self.pthat_channels):
                    mine = tuple(c for c in channels if c in self.pthat_channels[i])
                name = "_".join(part for part in (self.name, decay, label) if part)
                settings = (*self.settings, *lines, *window)
                times = self.smearings, self.rare_channels, self.rare_smearings
                out.append(Sample(name, self.name, settings, mine, None, *times))
        return tuple(out)

    def _slice(self, i: int) -> tuple[tuple[str, ...], str]:
        if not self.pthat:
            return (), ""
        low, last = self.pthat[i], i + 1 == len(self.pthat)
        lines = (f"PhaseSpace:pTHatMin = {low:g}",)
        if last:
            return lines, f"pt{low:g}"
        high = self.pthat[i + 1]
        return (*lines, f"PhaseSpace:pTHatMax = {high:g}"), f"pt{low:g}to{high:g}"


_LEPTONS = "11 13 15"
_QUARKS = "1 2 3 4 5"
_HADRONIC = ("1", "3")
_W_DECAYS = {
    "lnu": (("24:onMode = off", f"24:onIfAny = {_LEPTONS}"), _HADRONIC),
    "qq": (("24:onMode = off", f"24:onIfAny = {_QUARKS}"), _HADRONIC),
}
_Z_MASS = ("23:mMin = 50.",)
_Z_DECAYS = {
    "ll": ((*_Z_MASS, "23:onMode = off", f"23:onIfAny = {_LEPTONS}"), ("1", "2b", "3")),
    "nunu": ((*_Z_MASS, "23:onMode = off", "23:onIfAny = 12 14 16"), _HADRONIC),
    "qq": ((*_Z_MASS, "23:onMode = off", f"23:onIfAny = {_QUARKS}"), _HADRONIC),
}


def _ww(plus: str, minus: str) -> tuple[str, ...]:
    if plus == minus:
        # a channel has one switch: a later 'onNeg' would undo 'onPos'
        return ("24:onMode = off", f"24:onIfAny = {plus}")
    return ("24:onMode = off", f"24:onPosIfAny = {plus}", f"24:onNegIfAny = {minus}")


_TWO_W = {
    "ll": (_ww(_LEPTONS, _LEPTONS), ALL_CHANNELS),
    "lpqq": (_ww(_LEPTONS, _QUARKS), _HADRONIC),
    "lmqq": (_ww(_QUARKS, _LEPTONS), _HADRONIC),
    "qqqq": (_ww(_QUARKS, _QUARKS), _HADRONIC),
}
_ANY = {"": ((), ALL_CHANNELS)}
_ANY_HADRONIC = {"": ((), _HADRONIC)}
_LEPTONIC = ("2a", "2b")

_LIST = (
    Process(
        "njets",
        "QCD jets, charm and bottom included",
        ("HardQCD:all = on",),
        _ANY_HADRONIC,
        # two partons of 300 GeV are the generator-level HT of 600 GeV of the public njets sample (arXiv:2105.14027)
        (300.0, 400.0, 600.0, 900.0, 1400.0),
        smearings=8,
        rare_channels=("1",),
        rare_smearings=128,
    ),
    Process(
        "w_jets",
        "W and a jet",
        ("WeakBosonAndParton:qqbar2Wg = on", "WeakBosonAndParton:qg2Wq = on"),
        _W_DECAYS,
        (100.0, 250.0, 450.0, 800.0),
        (("3",),),
    ),
    Process(
        "z_jets",
        "Z (or virtual photon above 50 GeV) and a jet",
        ("WeakBosonAndParton:qqbar2gmZg = on", "WeakBosonAndParton:qg2gmZq = on"),
        _Z_DECAYS,
        (20.0, 100.0, 250.0, 450.0, 800.0),
        (("2b",), ("2b", "3")),
    ),
    Process(
        "gam_jets",
        "photon and a jet",
        (
            "PromptPhoton:qg2qgamma = on",
            "PromptPhoton:qqbar2ggamma = on",
            "PromptPhoton:gg2ggamma = on",
        ),
        _ANY_HADRONIC,
        (250.0, 450.0, 800.0),
        (("3",),),
        smearings=8,
        rare_channels=("1",),
        rare_smearings=128,
    ),
    Process(
        "ttbar",
        "top quark pairs",
        ("Top:gg2ttbar = on", "Top:qqbar2ttbar = on"),
        _TWO_W,
        (0.0, 200.0, 400.0),
    ),
    Process(
        "singletop",
        "single top and antitop, t and s channel",
        ("Top:qq2tq(t:W) = on", "Top:ffbar2tqbar(s:W) = on"),
        _W_DECAYS,
    ),
    Process(
        "ww",
        "W pairs",
        ("WeakDoubleBoson:ffbar2WW = on",),
        {**_TWO_W, "ll": (_TWO_W["ll"][0], ("1", "2b", "3"))},
        (0.0, 150.0),
    ),
    Process(
        "zw",
        "W Z",
        ("WeakDoubleBoson:ffbar2ZW = on",),
        {**_Z_DECAYS, "ll": (_Z_DECAYS["ll"][0], ALL_CHANNELS)},
        (0.0, 150.0),
    ),
    Process("zz", "Z pairs", ("WeakDoubleBoson:ffbar2gmZgmZ = on", *_Z_MASS), _ANY, (0.0, 150.0)),
    Process("Wgam", "W and a photon", ("WeakBosonAndParton:ffbar2Wgm = on",), _W_DECAYS, (20.0, 200.0)),
    Process("Zgam", "Z and a photon", ("WeakBosonAndParton:ffbar2gmZgm = on",), _Z_DECAYS, (20.0, 200.0)),
    Process(
        "2gam",
        "photon pairs",
        ("PromptPhoton:ffbar2gammagamma = on", "PromptPhoton:gg2gammagamma = on"),
        _ANY_HADRONIC,
        (250.0,),
    ),
    Process(
        "single_higgs",
        "Higgs boson: gluon fusion, vector boson fusion, with W or Z",
        (
            "HiggsSM:gg2H = on",
            "HiggsSM:ff2Hff(t:ZZ) = on",
            "HiggsSM:ff2Hff(t:WW) = on",
            "HiggsSM:ffbar2HZ = on",
            "HiggsSM:ffbar2HW = on",
        ),
        {"": ((), _LEPTONIC)},
    ),
    Process(
        "ttbarHiggs",
        "top quark pair and a Higgs boson",
        ("HiggsSM:gg2Httbar = on", "HiggsSM:qqbar2Httbar = on"),
        _ANY,
    ),
)

PROCESSES: Mapping[str, Process] = MappingProxyType({process.name: process for process in _LIST})

NOT_IN_PYTHIA: Mapping[str, str] = MappingProxyType(
    {
        "wtop, wtopbar": "g b -> W t is not in Pythia",
        "ttbarZ, ttbarW, ttbarGam, ttbarWW": "a top pair with a vector boson is a 2 -> 3 process that Pythia lacks",
        "atop, atopbar, ztop, ztopbar": "a single top with a photon or Z is not in Pythia",
        "4top": "four top quarks are a 2 -> 4 process",
    }
)
"""Processes of the public files that cannot be made here, and why."""


def samples_named(
    names: Sequence[str], known: Mapping[str, Sequence[Sample]], channels: Sequence[str]
) -> list[Sample]:
    """Samples of processes, or single samples, that matter in the channels.

    Parameters
    ----------
    names
        Names of processes (all their samples) or of samples.
    known
        Samples of each process.
    channels
        Samples with none of these channels are left out, unless they were requested by name.

    Raises
    ------
    InputError
        If a name is unknown, or a process has no sample in the channels.
    """
    single = {sample.name: sample for samples in known.values() for sample in samples}
    out: dict[str, Sample] = {}
    for name in names:
        if name in single:
            out[name] = single[name]
        elif name in known:
            mine = [s for s in known[name] if set(s.channels) & set(channels)]
            if not mine:
                usual = sorted({c for s in known[name] for c in s.channels})
                raise InputError(
                    f"process '{name}' has no sample in channel {', '.join(channels)}, only in {', '.join(usual)}; "
                    f"to try nevertheless name a sample: {', '.join(s.name for s in known[name])}"
                )
            out |= {s.name: s for s in mine}
        else:
            close = get_close_matches(name, {*known, *single}, n=3, cutoff=0.5)
            hint = f"; did you mean {' or '.join(close)}?" if close else ""
            raise InputError(
                f"there is no process, family, point or sample '{name}'{hint} ('serendip simulate channel --list' shows all)"
            )
    return list(out.values())
