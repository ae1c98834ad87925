// Write objects of every kind that hadd adds, and some that it does not.
//
//   root.exe -b -q -l 'make_beside.C("out.root", 0)'
//
// Arguments: file, and its number: contents, labels and limits differ between numbers.

#include "TEfficiency.h"
#include "TEventList.h"
#include "TFile.h"
#include "TGraphAsymmErrors.h"
#include "TGraphErrors.h"
#include "TH1.h"
#include "TH2.h"
#include "TH3.h"
#include "TList.h"
#include "TMap.h"
#include "TObjArray.h"
#include "TObjString.h"
#include "TParameter.h"
#include "TProfile.h"
#include "TProfile2D.h"
#include "TRandom3.h"

static void parameters(int k)
{
   TParameter<double>("sum", 1.5 + k).Write();
   TParameter<double>("constant", 1.5).Write();
   TParameter<int>("product", 3 + k, '*').Write();
   TParameter<int>("largest", 3 + k, 'M').Write();
   TParameter<Long64_t>("smallest", 3 - k, 'm').Write();
   TParameter<float>("first", 3 + k, 'f').Write();
   TParameter<int>("last", k, 'l').Write();
   TParameter<bool>("any", k == 1).Write();
   TParameter<int>("turns_over", 2000000000).Write();
}

static void graphs(int k)
{
   TGraph plain(3 + k);
   TGraphErrors errors(4);
   TGraphAsymmErrors asymmetric(2);
   for (int i = 0; i < 3 + k; ++i)
      plain.SetPoint(i, i + k, 2 * i);
   for (int i = 0; i < 4; ++i) {
      errors.SetPoint(i, i + k, i);
      errors.SetPointError(i, 0.1 * i, 0.2 + k);
   }
   for (int i = 0; i < 2; ++i) {
      asymmetric.SetPoint(i, i + k, i);
      asymmetric.SetPointError(i, 0.1, 0.2 * i, 0.3 + k, 0.4);
   }
   plain.Write("graph");
   errors.Write("graph_errors");
   asymmetric.Write("graph_asymmetric");
}

// Histograms whose axes differ from file to file, as those that jobs fill without a plan.
static void axes(int k, TRandom3 &random)
{
   const char *steps[] = {"all", "trigger", "two muons", "mass", "isolated", "vertex", "tight"};
   // Labels come in the order in which they are met, and bins double when there is no room.
   TH1D cutflow("cutflow", "filled by label", 2, 0, 2);
   cutflow.SetCanExtend(TH1::kAllAxes);
   for (int i = 0; i < 50; ++i)
      cutflow.Fill(steps[(random.Integer(3 + k) + k) % 7], 0.5 + random.Rndm());
   TH2D both("both", "filled by two labels", 3, 0, 3, 2, 0, 2);
   both.SetCanExtend(TH1::kAllAxes);
   for (int i = 0; i < 80; ++i)
      both.Fill(steps[random.Integer(2 + k)], steps[(k + random.Integer(3)) % 7], 1);
   TH1F shifted("shifted", "one grid, other limits", 10 + 2 * k, -1. * k, 10 + k);
   TH1D coarse("coarse", "bins of double width", 10, 0, k == 1 ? 20 : 10);
   TH2D plane("plane", "other limits in both", 4 + k, 0, 4 + k, 3 + k, -k, 3);
   TH3D space("space", "other limits in z", 2, 0, 2, 3, 0, 3, 2 + k, 0, 2 + k);
   TProfile profile("profile", "other limits", 5 + k, 0, 5 + k);
   for (int i = 0; i < 200; ++i) {
      shifted.Fill(-k + 0.01 + random.Rndm() * (9.9 + 2 * k), 1 + k);
      coarse.Fill(random.Rndm() * 9.9, random.Rndm());
      plane.Fill(random.Rndm() * (3.9 + k), random.Rndm() * 2.9, random.Rndm());
      space.Fill(2 * random.Rndm(), 3 * random.Rndm(), random.Rndm() * (1.9 + k));
      profile.Fill(random.Rndm() * (4.9 + k), random.Gaus());
   }
   for (TH1 *h : std::initializer_list<TH1 *>{&cutflow, &both, &shifted, &coarse, &plane, &space, &profile})
      h->Write();
}

void make_beside(const char *path, int k)
{
   TH1::AddDirectory(false);
   TRandom3 random(k + 1);
   TFile file(path, "recreate");
   parameters(k);
   graphs(k);
   axes(k, random);
   TEfficiency efficiency("efficiency", "passed of tried", 5, 0, 5);
   TH1D inner("inner", "in a list", 5, 0, 5);
   for (int i = 0; i < 100; ++i) {
      efficiency.Fill(random.Rndm() < 0.7, 5 * random.Rndm());
      inner.Fill(5 * random.Rndm());
   }
   efficiency.Write();
   TList list, nested;
   nested.SetName("nested");
   nested.Add(new TParameter<double>("inner sum", k));
   list.Add(&inner);
   list.Add(&nested);
   list.Write("list", TObject::kSingleKey);
   TObjArray array;
   array.Add(&inner);
   array.Write("array", TObject::kSingleKey);
   file.mkdir("deep")->cd();
   TObjString("said by all").Write("same");
   TObjString(Form("said by %d", k)).Write("other");
   TNamed("note", Form("of %d", k)).Write();
   TNamed("note", Form("of %d, later", k)).Write();
   file.Close();
}

// What hadd adds otherwise or not at all: entry numbers, maps, labels by bin numbers.
void make_odd(const char *path, int k)
{
   TFile file(path, "recreate");
   TEventList events("events", "entry numbers");
   events.Enter(k);
   events.Write();
   TMap map;
   map.Add(new TObjString("key"), new TObjString(Form("value %d", k)));
   map.Write("map", TObject::kSingleKey);
   const char *steps[] = {"all", "muon", "mass", "tight"};
   TH1D named("named", "labels in one file only", 3, 0, 3);
   TH1D steps_of("steps", "other steps under the same numbers", 3, 0, 3);
   for (int bin = 1; bin <= 3; ++bin) {
      if (k)
         named.GetXaxis()->SetBinLabel(bin, steps[bin - 1]);
      steps_of.GetXaxis()->SetBinLabel(bin, steps[bin - 1 + (k && bin > 1)]);
      named.SetBinContent(bin, bin * (1 + k));
      steps_of.SetBinContent(bin, bin + 10 * k);
   }
   named.Write();
   steps_of.Write();
   file.Close();
}
