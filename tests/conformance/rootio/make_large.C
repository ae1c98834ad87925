// Write a tree of about so many bytes, nothing compressed.
//
//   root.exe -b -q -l 'make_large.C("out.root", 1300000000)'

#include "TFile.h"
#include "TTree.h"
#include <vector>

void make_large(const char *path, Long64_t bytes)
{
   const int length = 50000;
   TFile file(path, "recreate", "", 0);
   TTree tree("Events", "large");
   tree.SetAutoFlush(100);
   std::vector<double> payload(length);
   int n = 0, number = 0;
   float jagged[8];
   auto *words = new std::vector<std::string>;
   tree.Branch("number", &number, "number/I");
   tree.Branch("n", &n, "n/I");
   tree.Branch("jagged", jagged, "jagged[n]/F");
   tree.Branch("words", &words);
   tree.Branch("payload", payload.data(), "payload[50000]/D", 1 << 20);
   const Long64_t entries = bytes / (length * Long64_t(sizeof(double)));
   for (number = 0; number < entries; ++number) {
      n = number % 8;
      for (int k = 0; k < n; ++k)
         jagged[k] = number + 0.1f * k;
      words->assign(number % 3, "word " + std::to_string(number));
      for (int k = 0; k < length; ++k)
         payload[k] = double(number) * length + k;
      tree.Fill();
   }
   tree.Write();
}
