"""Write the ROOT files of this folder: what uproot cannot write. Needs ROOT 6.36 or later (``pip install root``): ``python make.py``.

Event ``i`` of each file has the values that tests/test_root_files.py says.
"""

from pathlib import Path

import ROOT

ROOT.gROOT.SetBatch(True)
ROOT.gInterpreter.Declare(
    r"""
#include <TFile.h>
#include <TTree.h>
#include <TLorentzVector.h>
#include <TNamed.h>
#include <Math/Vector4D.h>
#include <optional>
#include <atomic>
#include <variant>
#include <ROOT/RNTupleWriter.hxx>
#include <ROOT/RNTupleModel.hxx>

struct Leaves { float mjj; float pt; int n; };

void branches(const char* name) {
  TFile file(name, "recreate", "", 209);
  TTree tree("events", "");
  Leaves dijet; double met; Float16_t h, h16, hr; Double32_t d, d32, dr; int nl; Float16_t lh[8]; Double32_t ld[8]; Double32_t three[3];
  float grid[2][2]; TLorentzVector p4; ROOT::Math::PtEtaPhiMVector lead, sub; TNamed named; std::vector<float> jets;
  double late;
  tree.Branch("dijet", &dijet, "mjj/F:pt/F:n/I");
  tree.Branch("met", &met, "met/D");
  tree.Branch("h", &h, "h/f"); tree.Branch("h16", &h16, "h16/f[0,0,16]"); tree.Branch("hr", &hr, "hr/f[0,1000,16]");
  tree.Branch("d", &d, "d/d"); tree.Branch("d32", &d32, "d32/d[0,0,32]"); tree.Branch("dr", &dr, "dr/d[0,1000,24]");
  tree.Branch("nl", &nl, "nl/I"); tree.Branch("lh", lh, "lh[nl]/f"); tree.Branch("ld", ld, "ld[nl]/d");
  tree.Branch("three", three, "three[3]/d"); tree.Branch("grid", grid, "grid[2][2]/F");
  tree.Branch("p4", &p4, 32000, 0);
  tree.Branch("lead", &lead); tree.Branch("sub", &sub);
  tree.Branch("named", &named, 32000, 0);
  tree.Branch("jets", &jets);
  for (int i = 0; i < 40; i++) {
    dijet = {1000.5f + i, 10.0f * i, i % 5}; met = 0.25 * i;
    h = h16 = hr = i + 0.5; d = d32 = dr = i + 0.5;
    nl = i % 4; for (int j = 0; j < nl; j++) { lh[j] = i + j; ld[j] = i + j + 0.5; }
    for (int j = 0; j < 3; j++) three[j] = i + j; for (int j = 0; j < 4; j++) grid[j / 2][j % 2] = 10 * i + j;
    p4.SetPxPyPzE(3, 4, 0, 13 + i); named.SetName("x");
    lead.SetCoordinates(100 + i, 0.1, 0.2, 5); sub.SetCoordinates(50 + i, -0.3, 2.9, 1);
    jets.assign(i % 3, 20.0f + i);
    tree.Fill();
  }
  auto branch = tree.Branch("late", &late, "late/D");
  for (int i = 0; i < 25; i++) { late = i; branch->Fill(); }
  tree.Write();
}

void ntuple(const char* name) {
  auto model = ROOT::RNTupleModel::Create();
  auto mjj = model->MakeField<double>("mjj"); auto score = model->MakeField<std::optional<float>>("score");
  auto njet = model->MakeField<std::optional<int>>("njet"); auto nb = model->MakeField<std::optional<short>>("nb");
  auto key = model->MakeField<std::optional<std::uint64_t>>("key"); auto run = model->MakeField<std::atomic<int>>("run");
  auto p4 = model->MakeField<ROOT::Math::PtEtaPhiMVector>("p4"); auto jets = model->MakeField<std::vector<float>>("jets");
  auto pair = model->MakeField<std::pair<int, float>>("pair"); auto either = model->MakeField<std::variant<int, float>>("either");
  auto title = model->MakeField<std::string>("title"); auto event = model->MakeField<std::uint64_t>("event");
  ROOT::RNTupleWriteOptions options; options.SetCompression(209);
  auto writer = ROOT::RNTupleWriter::Recreate(std::move(model), "events", name, options);
  for (int i = 0; i < 40; i++) {
    *mjj = 1000.5 + i; if (i % 3) *score = 0.5f * i; else *score = std::nullopt; *njet = i; if (i % 5) { *nb = i; *key = 9223372036854775808ull + i; } else { *nb = std::nullopt; *key = std::nullopt; }
    run->store(i % 4);
    p4->SetCoordinates(100 + i, 0.1, 0.2, 5); jets->assign(i % 3, 20.0f + i); *pair = {i, 2.0f * i}; if (i % 2) *either = i; else *either = 0.5f;
    *title = "event " + std::to_string(i); *event = 9223372036854775808ull + i;
    writer->Fill();
  }
}
"""
)
folder = Path(__file__).parent
ROOT.branches(str(folder / "branches.root"))
ROOT.ntuple(str(folder / "ntuple.root"))
