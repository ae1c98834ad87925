// Put beside a file's events what NanoAOD or DAOD files have there, and what people add.
//
//   root.exe -b -q -l 'add_beside.C("copy_of_events.root", "nano")'
//
// The public files were thinned out: their metadata is gone. Arguments: file, and "nano" or "daod".

#include "TFile.h"
#include "TH1.h"
#include "TParameter.h"
#include "TString.h"
#include "TTree.h"
#include <string>
#include <vector>

static void add_nano()
{
   UInt_t run = 0, block = 0, n = 0;
   Long64_t count = 0;
   double sum = 0, scales[9];
   TTree runs("Runs", "Runs");
   runs.Branch("run", &run, "run/i");
   runs.Branch("genEventCount", &count, "genEventCount/L");
   runs.Branch("genEventSumw", &sum, "genEventSumw/D");
   runs.Branch("nLHEScaleSumw", &n, "nLHEScaleSumw/i");
   runs.Branch("LHEScaleSumw", scales, "LHEScaleSumw[nLHEScaleSumw]/D");
   for (run = 1; run < 4; ++run) {
      count = 1000 * run;
      sum = 1000.25 * run;
      n = 3 * run;
      for (UInt_t k = 0; k < n; ++k)
         scales[k] = run + 0.125 * k;
      runs.Fill();
   }
   TTree blocks("LuminosityBlocks", "LuminosityBlocks");
   blocks.Branch("run", &run, "run/i");
   blocks.Branch("luminosityBlock", &block, "luminosityBlock/i");
   for (run = 1; run < 4; ++run)
      for (block = 1; block < 6; ++block)
         blocks.Fill();
   std::string history = "what was done";
   TTree meta("MetaData", "MetaData");
   meta.Branch("ProcessHistory", &history);
   meta.Fill();
   runs.Write();
   blocks.Write();
   meta.Write();
}

static void add_daod()
{
   std::vector<std::string> format = {"xAOD::EventInfo", "xAOD::JetContainer"};
   std::vector<double> weights = {12345.5, 0.25};
   std::vector<unsigned long long> events = {20000, 10};
   TTree meta("MetaData", "MetaData");
   meta.Branch("EventFormat", &format);
   meta.Branch("CutBookkeepersAux.sumOfEventWeights", &weights);
   meta.Branch("CutBookkeepersAux.nAcceptedEvents", &events);
   meta.Branch("EventStreamInfo_p3_StreamDAOD", &events);
   meta.Fill();
   meta.Write();
   TH1D flow("CutFlow_JetCleaning", "of all events", 3, 0, 3);
   flow.SetBinContent(1, 20000);
   flow.SetBinContent(2, 12345.5);
   flow.SetEntries(2);
   flow.Write();
   TParameter<double>("luminosity", 36.1, '+').Write();
}

void add_beside(const char *path, const char *kind)
{
   TH1::AddDirectory(false);
   TFile file(path, "update");
   if (TString(kind) == "nano")
      add_nano();
   else
      add_daod();
   file.Close();
}
