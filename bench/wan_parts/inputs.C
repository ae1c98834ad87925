// Make the files that the benchmark "wan" reads: 50 branches, as of NanoAOD.
//
//   root.exe -b -q -l 'inputs.C+O("nano-%03d.root", 505, 12000, 2000, 1, 30)'
//
// Arguments: names with a place for the number, compression (100 * algorithm + level), entries, entries
// per cluster, first seed, and how many files.

#include "TFile.h"
#include "TRandom3.h"
#include "TString.h"
#include "TTree.h"
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <vector>

// Keep as many bits of the mantissa as NanoAOD does: it decides how well floats compress.
static float rounded(double value, int bits)
{
   float exact = value;
   std::uint32_t word;
   std::memcpy(&word, &exact, sizeof(word));
   word = (word + (1u << (22 - bits))) & ~((1u << (23 - bits)) - 1);
   std::memcpy(&exact, &word, sizeof(word));
   return exact;
}

// A counter and seven columns or more that it counts.
struct Objects {
   static constexpr int kMax = 256;
   UInt_t n = 0;
   double mean;
   std::vector<std::vector<float>> floats;
   std::vector<std::vector<int>> ints;

   Objects(TTree &tree, const char *name, double average, int nFloats, int nInts)
      : mean(average), floats(nFloats, std::vector<float>(kMax)), ints(nInts, std::vector<int>(kMax))
   {
      const char *known[] = {"pt", "eta", "phi", "mass", "btag", "dxy", "iso", "area"};
      tree.Branch(Form("n%s", name), &n, Form("n%s/i", name));
      for (int k = 0; k < nFloats; ++k)
         tree.Branch(Form("%s_%s", name, known[k]), floats[k].data(), Form("%s_%s[n%s]/F", name, known[k], name));
      for (int k = 0; k < nInts; ++k)
         tree.Branch(Form("%s_id%d", name, k), ints[k].data(), Form("%s_id%d[n%s]/I", name, k, name));
   }

   void change(TRandom3 &random)
   {
      n = std::min<int>(random.Poisson(mean), kMax);
      for (std::size_t k = 0; k < floats.size(); ++k)
         for (UInt_t i = 0; i < n; ++i)
            floats[k][i] = k == 0 ? rounded(3 + random.Exp(20), 10) : rounded(random.Gaus(), k < 3 ? 12 : 8);
      for (auto &column : ints)
         for (UInt_t i = 0; i < n; ++i)
            column[i] = random.Integer(24) - 1;
   }
};

static void write(TFile &file, Long64_t entries, Long64_t cluster, int seed)
{
   TRandom3 random(seed);
   TTree tree("Events", "Events");
   tree.SetAutoFlush(cluster);
   UInt_t run = 358000, lumi = 1;
   ULong64_t event = 0;
   float floats[6];
   bool flags[7];
   const char *names[] = {"MET_pt", "MET_phi", "MET_sumEt", "Pileup_nTrueInt", "genWeight", "PV_z"};
   tree.Branch("run", &run, "run/i");
   tree.Branch("luminosityBlock", &lumi, "luminosityBlock/i");
   tree.Branch("event", &event, "event/l");
   for (int k = 0; k < 6; ++k)
      tree.Branch(names[k], &floats[k], Form("%s/F", names[k]));
   for (int k = 0; k < 7; ++k)
      tree.Branch(Form("HLT_path%d", k), &flags[k], Form("HLT_path%d/O", k));
   Objects all[] = {{tree, "Muon", 1.1, 5, 2},     // 8 branches each, but Jet
                    {tree, "Electron", 0.8, 5, 2},
                    {tree, "Jet", 5.5, 7, 2},
                    {tree, "GenPart", 90, 5, 2}};
   for (Long64_t entry = 0; entry < entries; ++entry) {
      lumi = 1 + entry / 500;
      event = 1000003 * ULong64_t(entry + entries * seed) % 400000000;
      for (auto &x : floats)
         x = rounded(random.Gaus(20, 10), 10);
      for (auto &x : flags)
         x = random.Rndm() < 0.05;
      for (auto &objects : all)
         objects.change(random);
      tree.Fill();
   }
   file.Write();
}

void inputs(const char *path, int compression, Long64_t entries, Long64_t cluster, int seed, int files)
{
   for (int number = 0; number < files; ++number) {
      TString name = Form(path, number), partial = name + ".partial";
      {
         TFile file(partial, "RECREATE", "", compression);
         write(file, entries, cluster, seed + number);
      }
      rename(partial, name);
   }
}
