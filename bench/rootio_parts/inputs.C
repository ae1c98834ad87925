// Make the files that the benchmark of evstream.rootio reads.
//
//   root.exe -b -q -l 'inputs.C+O("nano", "out.root", 101, 1300000, 10000, 1)'
//
// Arguments: kind ("nano" or "objects"), file, compression (100 * algorithm + level),
// entries, entries per cluster, seed, and how many files.
// Compile it (the "+"), so that the classes get dictionaries.

#include "TClonesArray.h"
#include "TFile.h"
#include "TLorentzVector.h"
#include "TRandom3.h"
#include "TString.h"
#include "TTree.h"
#include "TVector3.h"
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

struct BenchHit {
   float x = 0, y = 0, z = 0;
   int layer = 0;
};

class BenchTrack : public TObject {
public:
   float fPt = 0, fEta = 0, fPhi = 0;
   int fCharge = 0;
   std::vector<short> fLayers;
   TVector3 fVertex;
   ClassDefOverride(BenchTrack, 1);
};

class BenchEvent : public TObject {
public:
   int fRun = 0;
   Long64_t fNumber = 0;
   double fWeight = 1;
   float fCovariance[6] = {0, 0, 0, 0, 0, 0};
   std::string fTag;
   std::vector<BenchHit> fHits;
   std::vector<std::vector<int>> fGroups;
   TLorentzVector fSum;
   ClassDefOverride(BenchEvent, 1);
};

#ifdef __ROOTCLING__
#pragma link C++ class BenchHit + ;
#pragma link C++ class BenchTrack + ;
#pragma link C++ class BenchEvent + ;
#pragma link C++ class std::vector < BenchHit> + ;
#pragma link C++ class std::vector < std::vector < int>> + ;
#pragma link C++ class std::vector < std::vector < float>> + ;
#endif

// Keep as many bits of the mantissa as NanoAOD does: it decides how well floats compress.
static float rounded(double value, int bits = 10)
{
   float exact = value;
   std::uint32_t word;
   std::memcpy(&word, &exact, sizeof(word));
   word = (word + (1u << (22 - bits))) & ~((1u << (23 - bits)) - 1);
   std::memcpy(&exact, &word, sizeof(word));
   return exact;
}

// Objects of one kind, as NanoAOD stores them: a counter and arrays that it counts.
struct Collection {
   static constexpr int kMax = 128;
   int n = 0;
   double mean;
   std::vector<std::vector<float>> floats;
   std::vector<std::vector<int>> ints;
   std::vector<std::vector<unsigned char>> bytes;

   Collection(TTree &tree, const char *name, double average, int nFloats, int nInts, int nBytes)
      : mean(average), floats(nFloats, std::vector<float>(kMax)), ints(nInts, std::vector<int>(kMax)),
        bytes(nBytes, std::vector<unsigned char>(kMax))
   {
      tree.Branch(Form("n%s", name), &n, Form("n%s/i", name));
      const char *known[] = {"pt", "eta", "phi", "mass", "dxy", "dz", "iso", "btag"};
      for (int k = 0; k < nFloats; ++k) {
         TString branch = k < 8 ? Form("%s_%s", name, known[k]) : Form("%s_value%d", name, k);
         tree.Branch(branch, floats[k].data(), branch + Form("[n%s]/F", name));
      }
      for (int k = 0; k < nInts; ++k) {
         TString branch = Form("%s_%s%d", name, k % 2 ? "index" : "id", k);
         tree.Branch(branch, ints[k].data(), branch + Form("[n%s]/I", name));
      }
      for (int k = 0; k < nBytes; ++k) {
         TString branch = Form("%s_flag%d", name, k);
         tree.Branch(branch, bytes[k].data(), branch + Form("[n%s]/b", name));
      }
   }

   void change(TRandom3 &random)
   {
      n = std::min<int>(random.Poisson(mean), kMax);
      for (std::size_t k = 0; k < floats.size(); ++k)
         for (int i = 0; i < n; ++i)
            floats[k][i] = k == 0 ? rounded(3 + random.Exp(20)) : rounded(random.Gaus(), k < 3 ? 12 : 8);
      for (auto &column : ints)
         for (int i = 0; i < n; ++i)
            column[i] = random.Integer(24) - 1;
      for (auto &column : bytes)
         for (int i = 0; i < n; ++i)
            column[i] = random.Integer(8);
   }
};

static void write_nano(TFile &file, Long64_t entries, Long64_t flush, TRandom3 &random)
{
   TTree tree("Events", "Events");
   tree.SetAutoFlush(flush);
   UInt_t run = 358000, lumi = 1;
   ULong64_t event = 0;
   float floats[26];
   int ints[8];
   bool flags[24];
   tree.Branch("run", &run, "run/i");
   tree.Branch("luminosityBlock", &lumi, "luminosityBlock/i");
   tree.Branch("event", &event, "event/l");
   for (int k = 0; k < 26; ++k)
      tree.Branch(Form("MET_value%d", k), &floats[k], Form("MET_value%d/F", k));
   for (int k = 0; k < 8; ++k)
      tree.Branch(Form("PV_count%d", k), &ints[k], Form("PV_count%d/I", k));
   for (int k = 0; k < 24; ++k)
      tree.Branch(Form("HLT_path%d", k), &flags[k], Form("HLT_path%d/O", k));
   std::vector<std::unique_ptr<Collection>> all;
   auto add = [&](const char *name, double mean, int f, int i, int b) {
      all.push_back(std::make_unique<Collection>(tree, name, mean, f, i, b));
   };
   add("Electron", 0.8, 8, 3, 1);
   add("Muon", 1.1, 8, 3, 2);
   add("Jet", 5.5, 12, 3, 2);
   add("FatJet", 0.4, 10, 1, 0);
   add("Photon", 0.9, 6, 1, 1);
   add("GenPart", 22, 4, 3, 0);
   add("TrigObj", 7, 4, 1, 1);
   add("SV", 1.2, 8, 0, 0);
   for (Long64_t entry = 0; entry < entries; ++entry) {
      lumi = 1 + entry / 500;
      event = 1000003 * ULong64_t(entry) % 400000000;
      for (auto &x : floats)
         x = rounded(random.Gaus(20, 10));
      for (auto &x : ints)
         x = random.Poisson(30);
      for (auto &x : flags)
         x = random.Rndm() < 0.05;
      for (auto &collection : all)
         collection->change(random);
      tree.Fill();
   }
   file.Write();
}

static void write_objects(TFile &file, Long64_t entries, Long64_t flush, TRandom3 &random)
{
   TTree tree("analysis", "vectors and objects");
   tree.SetAutoFlush(flush);
   constexpr int kFloats = 330, kInts = 60, kNested = 12, kScalars = 70, kLorentz = 6;
   std::vector<std::vector<float>> floats(kFloats);
   std::vector<std::vector<int>> ints(kInts);
   std::vector<std::vector<std::vector<float>>> nested(kNested);
   std::vector<double> scalars(kScalars);
   std::vector<TLorentzVector *> lorentz(kLorentz);
   auto *event = new BenchEvent;
   auto *whole = new BenchEvent;
   auto *tracks = new TClonesArray("BenchTrack", 8);
   for (int k = 0; k < kFloats; ++k)
      tree.Branch(Form("vector_float_%d", k), &floats[k]);
   for (int k = 0; k < kInts; ++k)
      tree.Branch(Form("vector_int_%d", k), &ints[k]);
   for (int k = 0; k < kNested; ++k)
      tree.Branch(Form("nested_%d", k), &nested[k]);
   for (int k = 0; k < kScalars; ++k)
      tree.Branch(Form("scalar_%d", k), &scalars[k], Form("scalar_%d/D", k));
   for (int k = 0; k < kLorentz; ++k) {
      lorentz[k] = new TLorentzVector;
      tree.Branch(Form("lorentz_%d", k), &lorentz[k], 32000, 0);
   }
   tree.Branch("event.", &event, 32000, 99);
   tree.Branch("whole", &whole, 32000, 0);
   tree.Branch("tracks", &tracks, 32000, 99);
   auto fill = [&](BenchEvent &one, Long64_t entry) {
      one.fRun = 358000;
      one.fNumber = entry;
      one.fWeight = random.Rndm();
      for (auto &x : one.fCovariance)
         x = rounded(random.Gaus());
      one.fTag = std::string(1 + random.Integer(6), 'a' + random.Integer(4));
      one.fHits.resize(random.Integer(6));
      for (auto &hit : one.fHits) {
         hit.x = rounded(random.Gaus());
         hit.y = rounded(random.Gaus());
         hit.z = rounded(random.Gaus());
         hit.layer = random.Integer(10);
      }
      one.fGroups.assign(random.Integer(3), std::vector<int>(random.Integer(3), int(entry % 50)));
      one.fSum.SetXYZT(rounded(random.Gaus()), rounded(random.Gaus()), rounded(random.Gaus()), 100);
   };
   for (Long64_t entry = 0; entry < entries; ++entry) {
      // Objects of eleven kinds: the vectors of one kind have the same length.
      int counts[11];
      for (int &count : counts)
         count = random.Poisson(1.6);
      for (int k = 0; k < kFloats; ++k) {
         floats[k].resize(counts[k % 11]);
         for (auto &x : floats[k])
            x = rounded(random.Gaus(), 8);
      }
      for (int k = 0; k < kInts; ++k) {
         ints[k].resize(counts[k % 11]);
         for (auto &x : ints[k])
            x = random.Integer(20);
      }
      for (int k = 0; k < kNested; ++k) {
         nested[k].resize(counts[k % 11]);
         for (auto &inner : nested[k])
            inner.assign(random.Integer(4), rounded(random.Gaus(), 8));
      }
      for (auto &x : scalars)
         x = rounded(random.Gaus());
      for (auto *p : lorentz)
         p->SetXYZT(rounded(random.Gaus()), rounded(random.Gaus()), rounded(random.Gaus()), 50);
      fill(*event, entry);
      fill(*whole, entry);
      tracks->Clear("C");
      for (int k = 0; k < counts[0]; ++k) {
         auto *track = static_cast<BenchTrack *>(tracks->ConstructedAt(k));
         track->fPt = rounded(random.Exp(20));
         track->fEta = rounded(random.Gaus());
         track->fPhi = rounded(random.Gaus());
         track->fCharge = random.Integer(2) ? 1 : -1;
         track->fLayers.assign(random.Integer(5), short(random.Integer(9)));
         track->fVertex.SetXYZ(rounded(random.Gaus()), rounded(random.Gaus()), rounded(random.Gaus()));
      }
      tree.Fill();
   }
   file.Write();
}

// Make one file, or several whose names number them: "part-%03d.root".
void inputs(const char *kind, const char *path, int compression, Long64_t entries, Long64_t flush, int seed,
            int files = 1)
{
   for (int number = 0; number < files; ++number) {
      TString name = Form(path, number);
      TString partial = name + ".partial";
      {
         TFile file(partial, "RECREATE", "", compression);
         TRandom3 random(seed + number);
         if (TString(kind) == "nano")
            write_nano(file, entries, flush, random);
         else
            write_objects(file, entries, flush, random);
      }
      rename(partial, name);
   }
}
