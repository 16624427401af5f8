#!/usr/bin/env bash
# uproot reads packed numbers of a TTree as other numbers than ROOT, without a word, or not at all.
#
# ROOT ignores the number of bits in the title of a Float16_t or Double32_t without a range if it is 15 or more
# (x/f[0,0,16], x/d[0,0,32]): the first keeps 12 bits of the mantissa, the second is a float. uproot 5.7.7 takes the bits of the
# title. Lists of Float16_t without any title (v[n]/f) end in an UnboundLocalError.
set -euo pipefail
cd "$(mktemp -d)"
python3 -m venv venv
venv/bin/pip install -q root==0.1a12 uproot==5.7.7 awkward==2.14.0 numpy==2.4.6 2>/dev/null
cat > write.py <<'P'
import ROOT

ROOT.gROOT.SetBatch(True)
ROOT.gInterpreter.Declare(r"""
void write() {
  TFile file("packed.root", "recreate"); TTree tree("events", "");
  Float16_t h, v[4]; Double32_t d; int n;
  tree.Branch("h", &h, "h/f[0,0,16]"); tree.Branch("d", &d, "d/d[0,0,32]"); tree.Branch("n", &n, "n/I"); tree.Branch("v", v, "v[n]/f");
  for (int i = 0; i < 8; i++) { h = d = i; n = i % 3; for (int j = 0; j < n; j++) v[j] = i; tree.Fill(); }
  tree.Write();
}""")
ROOT.write()
file = ROOT.TFile("packed.root")
tree = file.Get("events")
for name in ("h", "d"):
    tree.Draw(name, "", "goff")
    print("ROOT", ROOT.gROOT.GetVersion(), name, [tree.GetV1()[i] for i in range(8)])
P
venv/bin/python -W ignore write.py
cat > read.py <<'P'
import uproot

tree = uproot.open("packed.root:events")
found = {}
for name in ("h", "d", "v"):
    try:
        found[name] = tree[name].array().tolist()
    except Exception as error:
        found[name] = type(error).__name__
    print("uproot", uproot.__version__, name, found[name])
assert found["h"] == [0.0, 1.0, 2.0, 2.0625, 4.0, 4.0625, 4.125, 4.1875], "h changed"
assert found["d"] == "AttributeError", "d changed"
assert found["v"] == "UnboundLocalError", "v changed"
P
venv/bin/python read.py
# Output of 2026-11-30:
#   ROOT 6.40.00 h [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
#   ROOT 6.40.00 d [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
#   uproot 5.7.7 h [0.0, 1.0, 2.0, 2.0625, 4.0, 4.0625, 4.125, 4.1875]
#   uproot 5.7.7 d AttributeError
#   uproot 5.7.7 v UnboundLocalError
