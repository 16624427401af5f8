#!/usr/bin/env bash
# ROOT 6.40.00 (wheel root 0.1a12): numbers of events above 2^53 in selections of a TTree and in reductions of RDataFrame.
#
# TTree::GetEntries and TTree::Draw compute selections in double precision: "id == N" also selects the neighbours of N, without a
# message. RDataFrame.Filter is exact, but RDataFrame.Max, called from Python without a type, rounds the largest id to a double that
# no event has. Hashes of run, luminosity block and event, and ids that are packed from them, are that large.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check root==0.1a12 2>/dev/null
"$folder/venv/bin/python" -W ignore - "$folder/ids.root" <<'PYTHON'
import array
import sys

import ROOT

path = sys.argv[1]
print("ROOT", ROOT.gROOT.GetVersion())
ids = {"id": 2**53, "uid": 2**63}
file = ROOT.TFile(path, "RECREATE")
tree = ROOT.TTree("events", "ten events with ids in a row")
signed, unsigned = array.array("q", [0]), array.array("Q", [0])
tree.Branch("id", signed, "id/L")
tree.Branch("uid", unsigned, "uid/l")
for k in range(10):
    signed[0], unsigned[0] = ids["id"] + k, ids["uid"] + k
    tree.Fill()
tree.Write()
file.Close()

file = ROOT.TFile.Open(path)
tree, frame = file.Get("events"), ROOT.RDataFrame("events", path)
one = f"id == {ids['id'] + 1}"
found = {
    "events with " + one + ", TTree::GetEntries": int(tree.GetEntries(one)),
    "the same, RDataFrame.Filter": int(frame.Filter(one).Count().GetValue()),
    f"events with uid == {ids['uid'] + 3}, TTree::GetEntries": int(tree.GetEntries(f"uid == {ids['uid'] + 3}")),
    "largest id is 2^53 + 9; RDataFrame.Max(\"id\") - 2^53": int(frame.Max("id").GetValue()) - ids["id"],
    "RDataFrame.Max[\"Long64_t\"](\"id\") - 2^53": int(frame.Max["Long64_t"]("id").GetValue()) - ids["id"],
}
for what, number in found.items():
    print(f"{what}: {number}")
expected = [2, 1, 10, 8, 9]
if list(found.values()) != expected:
    sys.exit(f"the behaviour has changed: {list(found.values())} instead of {expected}")
PYTHON
# Output seen:
# ROOT 6.40.00
# events with id == 9007199254740993, TTree::GetEntries: 2
# the same, RDataFrame.Filter: 1
# events with uid == 9223372036854775811, TTree::GetEntries: 10
# largest id is 2^53 + 9; RDataFrame.Max("id") - 2^53: 8
# RDataFrame.Max["Long64_t"]("id") - 2^53: 9
