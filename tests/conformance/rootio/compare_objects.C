// Compare all objects of two files that are no trees, in all directories.
//
//   root.exe -b -q -l 'compare_objects.C("expected.root", "found.root")'
//
// Histograms: class, limits, entries, contents, errors, statistics, labels. Parameters,
// graphs, efficiencies, texts and lists by their values. Anything else: as streamed.
// Where the second file keeps equal texts once, it need not hold all cycles of the first.
//
// Prints what differs, and "EQUAL <objects>" if nothing does.

#include "TBufferFile.h"
#include "TEfficiency.h"
#include "TFile.h"
#include "TGraph.h"
#include "TH1.h"
#include "THashList.h"
#include "TKey.h"
#include "TMath.h"
#include "TObjString.h"
#include "TParameter.h"
#include "TTree.h"
#include <iostream>
#include <string>

static bool near(double x, double y)
{
   return TMath::Abs(x - y) <= 1e-9 * (1 + TMath::Abs(x));
}

static std::string axis(TAxis &x, TAxis &y)
{
   if (x.GetNbins() != y.GetNbins() || !near(x.GetXmin(), y.GetXmin()) || !near(x.GetXmax(), y.GetXmax()))
      return "limits " + std::to_string(x.GetNbins()) + " or " + std::to_string(y.GetNbins());
   auto *mine = x.GetLabels(), *other = y.GetLabels();
   if (!mine != !other || (mine && mine->GetSize() != other->GetSize()))
      return "labels";
   for (int bin = 1; mine && bin <= x.GetNbins(); ++bin)
      if (std::string(x.GetBinLabel(bin)) != y.GetBinLabel(bin))
         return "label";
   return "";
}

static std::string histogram(TH1 &x, TH1 &y)
{
   if (x.GetEntries() != y.GetEntries() || x.GetNcells() != y.GetNcells() || x.GetSumw2N() != y.GetSumw2N())
      return "entries or bins";
   for (int bin = 0; bin < x.GetNcells(); ++bin)
      if (!near(x.GetBinContent(bin), y.GetBinContent(bin)) || !near(x.GetBinError(bin), y.GetBinError(bin)))
         return "bin " + std::to_string(bin);
   double a[20] = {0}, b[20] = {0};
   x.GetStats(a);
   y.GetStats(b);
   for (int i = 0; i < 13; ++i)
      if (!near(a[i], b[i]))
         return "statistic " + std::to_string(i);
   auto why = axis(*x.GetXaxis(), *y.GetXaxis());
   if (why.empty())
      why = axis(*x.GetYaxis(), *y.GetYaxis());
   return why.empty() ? axis(*x.GetZaxis(), *y.GetZaxis()) : why;
}

static std::string graph(TGraph &x, TGraph &y)
{
   if (x.GetN() != y.GetN())
      return "points";
   for (int i = 0; i < x.GetN(); ++i)
      if (x.GetX()[i] != y.GetX()[i] || x.GetY()[i] != y.GetY()[i] || x.GetErrorXlow(i) != y.GetErrorXlow(i) ||
          x.GetErrorXhigh(i) != y.GetErrorXhigh(i) || x.GetErrorYlow(i) != y.GetErrorYlow(i) ||
          x.GetErrorYhigh(i) != y.GetErrorYhigh(i))
         return "point " + std::to_string(i);
   return "";
}

template <typename T>
static bool parameter(TObject *x, TObject *y, std::string &why)
{
   auto *a = dynamic_cast<TParameter<T> *>(x), *b = dynamic_cast<TParameter<T> *>(y);
   if (!a || !b)
      return false;
   why = a->GetVal() == b->GetVal() && a->TestBits(0x3f0000) == b->TestBits(0x3f0000) ? "" : "value";
   return true;
}

static std::string streamed(TObject *object)
{
   TBufferFile buffer(TBuffer::kWrite);
   object->Streamer(buffer);
   return std::string(buffer.Buffer(), buffer.Length());
}

static std::string difference(TObject *x, TObject *y)
{
   if (!x && !y)
      return ""; // an empty place in an array
   if (!x || !y)
      return "missing";
   if (std::string(x->ClassName()) != y->ClassName())
      return "class";
   std::string why;
   if (auto *h = dynamic_cast<TH1 *>(x))
      return histogram(*h, *static_cast<TH1 *>(y));
   if (auto *g = dynamic_cast<TGraph *>(x))
      return graph(*g, *static_cast<TGraph *>(y));
   if (parameter<double>(x, y, why) || parameter<float>(x, y, why) || parameter<int>(x, y, why) ||
       parameter<Long64_t>(x, y, why) || parameter<bool>(x, y, why))
      return why;
   if (auto *e = dynamic_cast<TEfficiency *>(x)) {
      auto *f = static_cast<TEfficiency *>(y);
      why = histogram(*const_cast<TH1 *>(e->GetTotalHistogram()), *const_cast<TH1 *>(f->GetTotalHistogram()));
      if (why.empty())
         why = histogram(*const_cast<TH1 *>(e->GetPassedHistogram()), *const_cast<TH1 *>(f->GetPassedHistogram()));
      return why.empty() && !near(e->GetWeight(), f->GetWeight()) ? "weight" : why;
   }
   if (x->InheritsFrom(TSeqCollection::Class())) {
      auto *a = static_cast<TSeqCollection *>(x), *b = static_cast<TSeqCollection *>(y);
      if (a->GetSize() != b->GetSize())
         return "items";
      for (int i = 0; i < a->GetSize() && why.empty(); ++i)
         why = difference(a->At(i), b->At(i));
      return why;
   }
   return streamed(x) == streamed(y) ? "" : "bytes";
}

static void compare(TDirectory &expected, TDirectory &found, int &count, int &bad)
{
   for (auto *item : *expected.GetListOfKeys()) {
      auto *key = static_cast<TKey *>(item);
      auto *type = TClass::GetClass(key->GetClassName());
      if (type && (type->InheritsFrom(TTree::Class()) || std::string(key->GetClassName()) == "TProcessID"))
         continue;
      auto *object = key->ReadObj();
      if (object->InheritsFrom(TDirectory::Class())) {
         auto *other = found.GetDirectory(object->GetName());
      
         if (other)
            compare(*static_cast<TDirectory *>(object), *other, count, bad);
         else if (static_cast<TDirectory *>(object)->GetListOfKeys()->GetSize())
            std::cout << "DIFFERENT " << object->GetName() << " missing" << std::endl, ++bad;
         continue;
      }
      std::string why = "missing";
      for (int cycle = key->GetCycle(); cycle > 0 && !why.empty(); --cycle) {
         auto *other = found.GetKey(key->GetName(), cycle);
         if (other)
            why = difference(object, other->ReadObj());
      }
      if (!why.empty()) {
         std::cout << "DIFFERENT " << key->GetName() << ";" << key->GetCycle() << " " << why << std::endl;
         ++bad;
      }
      ++count;
   }
}

void compare_objects(const char *expected, const char *found)
{
   TH1::AddDirectory(false);
   int count = 0, bad = 0;
   compare(*TFile::Open(expected), *TFile::Open(found), count, bad);
   if (!bad)
      std::cout << "EQUAL " << count << std::endl;
}
