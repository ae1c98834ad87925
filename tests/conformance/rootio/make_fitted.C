// Write histograms and a graph that were fitted, or drawn, before they were written.
//
//   root.exe -b -q -l 'make_fitted.C("out.root", 0)'
//
// Arguments: file, and its number: contents and labels differ between numbers.

#include "TCanvas.h"
#include "TF1.h"
#include "TFile.h"
#include "TGraphErrors.h"
#include "TH1.h"
#include "TH2.h"
#include "TRandom3.h"
#include "TStyle.h"

void make_fitted(const char *path, int k)
{
   TRandom3 random(k + 1);
   TFile file(path, "recreate");
   gStyle->SetOptStat(1111);
   TCanvas canvas;
   TH1D gaus("gaus", "fitted", 10, 0, 1), own("own", "fitted by a formula", 10, 0, 1);
   for (int i = 0; i < 100; ++i) {
      gaus.Fill(random.Gaus(0.5, 0.1));
      own.Fill(random.Rndm());
   }
   gaus.Fit("gaus", "Q0");
   gaus.Write();
   TF1 formula("formula", "[0]*exp(-x)+[1]*x", 0, 1);
   own.Fit(&formula, "Q0");
   own.Write();
   TH1D drawn("drawn", "drawn", 10, 0, 1);
   drawn.Fill(0.5);
   drawn.Draw();
   canvas.Update();
   drawn.Write();
   TH2D colours("colours", "drawn in colours", 5, 0, 1, 5, 0, 1);
   colours.Fill(0.5, 0.5);
   colours.Draw("colz");
   canvas.Update();
   colours.Write();
   TH1D labels("labels", "labels before functions", 3, 0, 3);
   labels.Fill(TString::Format("only %d", k).Data(), 1);
   labels.Fill("all", 1);
   labels.LabelsDeflate();
   labels.Fit("pol0", "Q0");
   labels.Write();
   TGraphErrors graph(4);
   for (int i = 0; i < 4; ++i) {
      graph.SetPoint(i, i + k, 2 * i + k + 0.1 * i * i);
      graph.SetPointError(i, 0.1, 0.1);
   }
   graph.Fit("pol2", "Q0");
   graph.Draw("AP");
   canvas.Update();
   graph.Write("graph");
}
