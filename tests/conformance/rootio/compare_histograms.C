// Compare all histograms of two files: class, entries, contents, errors, statistics, labels.
//
//   root.exe -b -q -l 'compare_histograms.C("expected.root", "found.root")'
//
// Prints what differs, and "EQUAL <histograms>" if nothing does.

#include "TFile.h"
#include "TH1.h"
#include "THashList.h"
#include "TKey.h"
#include "TMath.h"
#include <iostream>

static bool near(double x, double y)
{
   return TMath::Abs(x - y) <= 1e-9 * (1 + TMath::Abs(x));
}

static std::string difference(TH1 &x, TH1 &y)
{
   if (std::string(x.ClassName()) != y.ClassName())
      return "class";
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
   auto *mine = x.GetXaxis()->GetLabels(), *other = y.GetXaxis()->GetLabels();
   if (!mine != !other || (mine && mine->GetSize() != other->GetSize()))
      return "labels";
   for (int bin = 1; mine && bin <= x.GetNbinsX(); ++bin)
      if (std::string(x.GetXaxis()->GetBinLabel(bin)) != y.GetXaxis()->GetBinLabel(bin))
         return "label";
   return "";
}

static void compare(TDirectory &expected, TDirectory &found, int &count, int &bad)
{
   for (auto *item : *expected.GetListOfKeys()) {
      auto *object = static_cast<TKey *>(item)->ReadObj();
      if (object->InheritsFrom(TDirectory::Class())) {
         compare(*static_cast<TDirectory *>(object), *found.GetDirectory(object->GetName()), count, bad);
      } else if (object->InheritsFrom(TH1::Class())) {
         auto *other = found.Get<TH1>(object->GetName());
         auto why = other ? difference(*static_cast<TH1 *>(object), *other) : std::string("missing");
         if (!why.empty()) {
            std::cout << "DIFFERENT " << object->GetName() << " " << why << std::endl;
            ++bad;
         }
         ++count;
      }
   }
}

void compare_histograms(const char *expected, const char *found)
{
   int count = 0, bad = 0;
   compare(*TFile::Open(expected), *TFile::Open(found), count, bad);
   if (!bad)
      std::cout << "EQUAL " << count << std::endl;
}
