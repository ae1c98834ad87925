// Write histograms of which one file's has no exact sums: ROOT takes them from its bins.
//
//   root.exe -b -q -l 'make_statistics.C("out.root", 0)'
//
// Arguments: file, and its number: in number 1 all is outside, cancels, or was set by hand.

#include "TFile.h"
#include "TH1.h"
#include "TH2.h"
#include "TH3.h"
#include "TProfile.h"
#include "TProfile2D.h"
#include "TProfile3D.h"
#include "TRandom3.h"

static void bare(int k, TRandom3 &random)
{
   // By hand in file 1: bins inside and outside, some of them negative.
   double edges[] = {0, 1, 3, 9};
   TH1D wide("wide", "bins that differ in width", 3, edges), counted("counted", "outside counts", 4, 0, 4);
   TH2F plane("plane", "by hand", 3, 0, 3, 2, -1, 1);
   TH3D space("space", "by hand", 2, 0, 2, 3, 0, 3, 2, 5, 7);
   TH1D named("named", "filled by label", 3, 0, 3);
   named.SetCanExtend(TH1::kAllAxes);
   counted.SetStatOverflows(TH1::kConsider);
   for (TH1 *h : std::initializer_list<TH1 *>{&wide, &counted, &plane, &space}) {
      h->Sumw2();
      for (int cell = 0; cell < h->GetNcells(); ++cell)
         if (k == 1) {
            h->SetBinContent(cell, random.Gaus());
            h->SetBinError(cell, random.Rndm());
         }
   }
   for (int i = 0; k != 1 && i < 50; ++i) {
      wide.Fill(random.Rndm() * 10 - 0.5, random.Gaus(1, 1));
      counted.Fill(random.Rndm() * 5 - 0.5);
      plane.Fill(random.Rndm() * 3, random.Rndm() * 2 - 1, random.Rndm());
      space.Fill(random.Rndm() * 2, random.Rndm() * 3, 5 + 2 * random.Rndm());
   }
   for (const char *label : {"one", "two", k ? "three" : "four"})
      named.Fill(label, k == 1 ? 0 : 2.5);
   if (k == 1)
      named.SetBinContent(2, 7);
   for (TH1 *h : std::initializer_list<TH1 *>{&wide, &counted, &plane, &space, &named})
      h->Write();
}

void make_statistics(const char *path, int k)
{
   TH1::AddDirectory(false);
   TRandom3 random(k + 1);
   TFile file(path, "recreate");
   bare(k, random);
   TH1D above("above", "all above", 4, 0, 4), none("none", "weights cancel", 4, 0, 4);
   none.Sumw2();
   TProfile line("line", "all above", 4, 0, 4);
   TProfile2D plane("plane_of", "weights cancel", 2, 0, 2, 2, 0, 2);
   TProfile3D space("space_of", "weights cancel", 2, 0, 2, 2, 0, 2, 2, 0, 2);
   for (int i = 0; i < 40; ++i) {
      double x = 2 * random.Rndm(), y = 2 * random.Rndm(), z = 2 * random.Rndm();
      double weight = k != 1 ? 2 : i % 2 ? 1 : -1;
      above.Fill(k == 1 ? 5 : x);
      none.Fill(x, weight);
      line.Fill(k == 1 ? 5 : x, y);
      plane.Fill(x, y, z, weight);
      space.Fill(x, y, z, x * y, weight);
   }
   for (TH1 *h : std::initializer_list<TH1 *>{&above, &none, &line, &plane, &space})
      h->Write();
   file.Close();
}
