// Write trees with every kind of branch, and histograms of every kind.
//
//   root.exe -b -q -l 'make_zoo.C+("out.root", 505, 1, 1000, 100, false)'
//
// Arguments: file, compression (100 * algorithm + level), seed, entries, entries per
// cluster, and whether baskets leave their offsets to the counters (kGenerateOffsetMap).
// Compile it (the "+"), so that the classes get dictionaries.

#include "TClonesArray.h"
#include "TDirectory.h"
#include "TF1.h"
#include "TFile.h"
#include "TH1.h"
#include "TH2.h"
#include "TH3.h"
#include "TLorentzVector.h"
#include "TNamed.h"
#include "TNtuple.h"
#include "TParameter.h"
#include "TProfile.h"
#include "TProfile2D.h"
#include "TProfile3D.h"
#include "TRandom3.h"
#include "TRef.h"
#include "TRefArray.h"
#include "TTree.h"
#include "TTreeIndex.h"
#include "TVector3.h"
#include "ROOT/TIOFeatures.hxx"
#include <array>
#include <map>
#include <string>
#include <vector>

class ZooBase : public TObject {
public:
   int fBase = 0;
   virtual ~ZooBase() {}
   ClassDef(ZooBase, 1);
};

class ZooLeft : public ZooBase {
public:
   double fLeft = 0;
   ClassDef(ZooLeft, 2);
};

class ZooRight : public ZooBase {
public:
   std::vector<short> fRight;
   ClassDef(ZooRight, 3);
};

struct ZooPoint {
   float x = 0, y = 0;
   std::vector<int> path;
};

class ZooEvent : public TObject {
public:
   int fN = 0;
   float fArray[4] = {0, 0, 0, 0};
   float *fCounted = nullptr; //[fN]
   Double32_t fDouble32 = 0;
   std::string fText;
   TString fRootText;
   std::vector<ZooPoint> fPoints;
   std::map<int, std::string> fMap;
   ZooBase *fPointer = nullptr;
   std::vector<ZooBase *> fPointers;
   TVector3 fVector;
   ClassDefOverride(ZooEvent, 1);
};

class ZooRefs : public TObject {
public:
   TObjArray fOwned;
   TRef fFirst;
   TRefArray fAll;
   ZooRefs() { fOwned.SetOwner(); }
   ClassDef(ZooRefs, 1);
};

#ifdef __ROOTCLING__
#pragma link C++ class ZooBase + ;
#pragma link C++ class ZooLeft + ;
#pragma link C++ class ZooRight + ;
#pragma link C++ class ZooPoint + ;
#pragma link C++ class ZooEvent + ;
#pragma link C++ class ZooRefs + ;
#pragma link C++ class std::vector < ZooPoint> + ;
#pragma link C++ class std::vector < ZooBase *> + ;
#pragma link C++ class std::vector < std::vector < int>> + ;
#pragma link C++ class std::map < int, std::string> + ;
#endif

static ZooBase *some(TRandom3 &random)
{
   if (random.Rndm() < 0.2)
      return nullptr;
   if (random.Rndm() < 0.5) {
      auto *left = new ZooLeft;
      left->fBase = random.Integer(1000);
      left->fLeft = random.Gaus();
      return left;
   }
   auto *right = new ZooRight;
   right->fBase = random.Integer(1000);
   right->fRight.assign(random.Integer(4), short(random.Integer(100)));
   return right;
}

static void change(ZooEvent &event, TRandom3 &random)
{
   // What pointers lead to is never freed: whether ROOT does is not our subject.
   event.fPointers.clear();
   event.fN = random.Integer(6);
   event.fCounted = event.fN ? new float[event.fN] : nullptr;
   for (int i = 0; i < event.fN; ++i)
      event.fCounted[i] = random.Gaus();
   for (auto &x : event.fArray)
      x = random.Gaus();
   event.fDouble32 = random.Rndm();
   event.fText = std::string(random.Integer(20), char('a' + random.Integer(26)));
   event.fRootText = event.fText.c_str();
   event.fPoints.resize(random.Integer(4));
   for (auto &p : event.fPoints) {
      p.x = random.Rndm();
      p.y = random.Rndm();
      p.path.assign(random.Integer(3), int(random.Integer(50)));
   }
   event.fMap.clear();
   for (unsigned i = 0; i < random.Integer(3); ++i)
      event.fMap[random.Integer(100)] = "label";
   event.fPointer = some(random);
   for (unsigned i = 0; i < random.Integer(4); ++i)
      event.fPointers.push_back(some(random));
   event.fVector.SetXYZ(random.Gaus(), random.Gaus(), random.Gaus());
}

static void flat_tree(TRandom3 &random, int entries, int flush, bool generate)
{
   TTree tree("flat", "leaves of all kinds");
   tree.SetAutoFlush(flush);
   if (generate) {
      ROOT::TIOFeatures features;
      features.Set(ROOT::Experimental::EIOFeatures::kGenerateOffsetMap);
      tree.SetIOFeatures(features);
   }
   int n;
   unsigned char m;
   struct {
      int a;
      float b;
      double c;
   } several;
   float jagged[40];
   double matrix[40][3];
   short fixed[5];
   char text[40];
   bool flag;
   Float16_t half, ranged;
   Double32_t packed;
   Long64_t large;
   unsigned short small;
   unsigned char tiny[255];
   std::vector<float> *floats = new std::vector<float>;
   std::vector<std::vector<int>> *nested = new std::vector<std::vector<int>>;
   std::vector<bool> *bits = new std::vector<bool>;
   std::vector<std::string> *words = new std::vector<std::string>;
   std::string *word = new std::string;
   // The longest text differs between files.
   int longest = 8 + random.Integer(20);
   // The arrays come before one of their counters on purpose.
   tree.Branch("n", &n, "n/I", 2000);
   tree.Branch("several", &several.a, "a/I:b/F", 2000);
   tree.Branch("jagged", jagged, "jagged[n]/F", 3000);
   tree.Branch("matrix", matrix, "matrix[n][3]/D", 4000);
   tree.Branch("fixed", fixed, "fixed[5]/S", 2500);
   tree.Branch("text", text, "text/C", 2000);
   tree.Branch("flag", &flag, "flag/O", 2000);
   tree.Branch("half", &half, "half/f", 2000);
   tree.Branch("ranged", &ranged, "ranged/f[-1,1,10]", 2000);
   tree.Branch("packed", &packed, "packed/d[0,0,12]", 2000);
   tree.Branch("large", &large, "large/L", 2000);
   tree.Branch("small", &small, "small/s", 2000);
   tree.Branch("m", &m, "m/b", 2000);
   tree.Branch("tiny", tiny, "tiny[m]/b", 2000);
   tree.Branch("floats", &floats, 3000, 0);
   tree.Branch("nested", &nested, 3000, 0);
   tree.Branch("bits", &bits, 3000, 0);
   tree.Branch("words", &words, 3000, 0);
   tree.Branch("word", &word, 3000, 0);
   for (int i = 0; i < entries; ++i) {
      // Later entries are longer: the maximum of a leaf differs between slices.
      n = random.Integer(1 + i * 20 / entries);
      m = random.Integer(7);
      several = {i, float(random.Gaus()), random.Gaus()};
      for (int k = 0; k < n; ++k) {
         jagged[k] = random.Gaus();
         for (double &x : matrix[k])
            x = random.Gaus();
      }
      for (auto &x : fixed)
         x = random.Integer(1000);
      snprintf(text, sizeof(text), "%.*s", int(random.Integer(longest)), "abcdefghijklmnopqrstuvwxyz0123456789");
      flag = random.Rndm() < 0.5;
      half = random.Gaus();
      ranged = random.Rndm();
      packed = random.Gaus();
      large = Long64_t(i) << 33;
      small = i;
      for (auto &x : tiny)
         x = random.Integer(256);
      floats->assign(random.Integer(5), random.Gaus());
      nested->assign(random.Integer(4), std::vector<int>(random.Integer(3), i));
      bits->assign(random.Integer(9), random.Rndm() < 0.5);
      words->assign(random.Integer(3), std::string(random.Integer(300), 'w'));
      *word = std::string(random.Integer(30), 'v');
      tree.Fill();
   }
   tree.SetAlias("twice", "2*n");
   tree.GetUserInfo()->Add(new TNamed("note", "kept"));
   tree.GetUserInfo()->Add(new TParameter<double>("luminosity", 12.5));
   tree.BuildIndex("n", "small");
   tree.AddFriend("objects");
   tree.Write();
}

static void object_tree(TRandom3 &random, int entries, int flush)
{
   TTree tree("objects", "objects of all kinds");
   tree.SetAutoFlush(flush);
   auto *whole = new ZooEvent, *split = new ZooEvent;
   auto *pointer = some(random);
   while (!pointer)
      pointer = some(random);
   auto *points = new std::vector<ZooPoint>;
   auto *clones = new TClonesArray("TVector3", 10), *clones_whole = new TClonesArray("TLorentzVector", 10);
   auto *refs = new ZooRefs;
   ZooEvent *old = new ZooEvent;
   tree.Branch("whole", &whole, 6000, 0);
   tree.Branch("split.", &split, 3000, 99);
   tree.Branch("points", &points, 3000, 99);
   tree.Branch("clones", &clones, 3000, 99);
   tree.Branch("clones_whole", &clones_whole, 3000, 0);
   tree.Branch("refs", &refs, 6000, 0);
   tree.BranchRef();
   for (int i = 0; i < entries; ++i) {
      change(*whole, random);
      change(*split, random);
      *points = whole->fPoints;
      clones->Clear();
      clones_whole->Clear();
      for (unsigned k = 0; k < random.Integer(5); ++k) {
         new ((*clones)[k]) TVector3(random.Gaus(), random.Gaus(), i);
         new ((*clones_whole)[k]) TLorentzVector(random.Gaus(), random.Gaus(), random.Gaus(), i);
      }
      int ids = TProcessID::GetObjectCount();
      refs->fAll.Delete();
      refs->fOwned.Clear();
      refs->fFirst = nullptr;
      for (unsigned k = 0; k < random.Integer(4); ++k) {
         auto *named = new TNamed("named", std::to_string(i).c_str());
         refs->fOwned.Add(named);
         refs->fAll.Add(named);
         refs->fFirst = named;
      }
      tree.Fill();
      TProcessID::SetObjectCount(ids);
   }
   tree.Write();
}

static void histograms(TRandom3 &random, TDirectory *where)
{
   where->cd();
   TH1C c("h1c", "bytes", 10, 0, 1);
   TH1S s("h1s", "shorts", 10, 0, 1);
   TH1I i("h1i", "ints", 10, 0, 1);
   TH1L l("h1l", "longs", 10, 0, 1);
   TH1F f("h1f", "floats", 100, -3, 3);
   TH1D d("h1d", "doubles", 100, -3, 3);
   d.Sumw2();
   double edges[] = {-3, -1, 0, 0.5, 3};
   TH1D uneven("uneven", "variable bins", 4, edges);
   TH1D labels("cutflow", "labels", 3, 0, 3);
   labels.GetXaxis()->SetBinLabel(1, "all");
   labels.GetXaxis()->SetBinLabel(2, "triggered");
   labels.GetXaxis()->SetBinLabel(3, "selected");
   TH2F f2("h2f", "two", 10, -3, 3, 12, -2, 2);
   TH2D d2("h2d", "two", 10, -3, 3, 12, -2, 2);
   TH3F f3("h3f", "three", 4, -3, 3, 5, -2, 2, 6, -1, 1);
   TProfile p("profile", "profile", 10, -3, 3);
   TProfile2D p2("profile2", "profile", 5, -3, 3, 5, -3, 3);
   TProfile3D p3("profile3", "profile", 3, -3, 3, 3, -3, 3, 3, -3, 3);
   for (int k = 0; k < 500; ++k) {
      double x = random.Gaus(), y = random.Gaus(), z = random.Gaus(), w = random.Rndm();
      c.Fill(random.Rndm());
      s.Fill(random.Rndm());
      i.Fill(random.Rndm());
      l.Fill(random.Rndm());
      f.Fill(x);
      d.Fill(x, w);
      uneven.Fill(x);
      labels.Fill(random.Integer(3) + 0.5);
      f2.Fill(x, y);
      d2.Fill(x, y, w);
      f3.Fill(x, y, z);
      p.Fill(x, y);
      p2.Fill(x, y, z, w);
      p3.Fill(x, y, z, w);
   }
   // Bins set by hand leave no statistics behind.
   TH1D by_hand("by_hand", "no statistics", 3, 0, 3);
   for (int k = 1; k < 4; ++k)
      by_hand.SetBinContent(k, random.Integer(100));
   for (TH1 *h : std::initializer_list<TH1 *>{&c, &s, &i, &l, &f, &d, &uneven, &labels, &f2, &d2, &f3, &p, &p2, &p3, &by_hand})
      h->Write();
   TNamed("remark", "first one stays").Write();
}

void make_zoo(const char *path, int compression, int seed, int entries, int flush, bool generate)
{
   TH1::AddDirectory(false);
   TRandom3 random(seed);
   TFile file(path, "recreate", "", compression);
   object_tree(random, entries, flush);
   flat_tree(random, entries, flush, generate);
   auto *deep = file.mkdir("deep", "first")->mkdir("er", "second");
   deep->cd();
   TNtuple ntuple("ntuple", "in a directory", "x:y:z");
   for (int i = 0; i < entries; ++i)
      ntuple.Fill(random.Gaus(), random.Gaus(), i);
   ntuple.Write();
   // An older cycle of the same name stays behind.
   ntuple.Fill(1, 2, 3);
   ntuple.Write();
   histograms(random, &file);
   histograms(random, deep);
   file.Close();
}
