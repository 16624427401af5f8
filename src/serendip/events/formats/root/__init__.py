"""ROOT files through uproot: TTree and RNTuple."""

from serendip.events.formats.root.table import RootTable

__all__ = ["RootTable"]
