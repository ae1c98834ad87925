// Print the functions of each histogram and graph, with parameters, and what they are part of.
//
//   root.exe -b -q -l 'read_fitted.C("file.root")'

#include "TF1.h"
#include "TFile.h"
#include "TGraph.h"
#include "TH1.h"
#include "TKey.h"
#include "TPaletteAxis.h"
#include "TPaveStats.h"
#include <iostream>

void read_fitted(const char *path)
{
   TFile file(path);
   for (auto *one : *file.GetListOfKeys()) {
      auto *object = static_cast<TKey *>(one)->ReadObj();
      auto *histogram = dynamic_cast<TH1 *>(object);
      auto *graph = dynamic_cast<TGraph *>(object);
      auto *functions = histogram ? histogram->GetListOfFunctions() : graph->GetListOfFunctions();
      for (auto *function : *functions) {
         std::cout << "FUNCTION " << object->GetName() << " " << function->ClassName();
         if (auto *f = dynamic_cast<TF1 *>(function)) {
            std::cout << " " << f->GetName() << " " << f->Eval(0.3);
            for (int i = 0; i < f->GetNpar(); ++i)
               std::cout << " " << f->GetParName(i) << " " << f->GetParameter(i) << " " << f->GetParError(i);
         }
         if (auto *box = dynamic_cast<TPaveStats *>(function))
            std::cout << " of its own " << (box->GetParent() == object) << " " << box->GetListOfLines()->GetSize();
         if (auto *palette = dynamic_cast<TPaletteAxis *>(function))
            std::cout << " of its own " << (palette->GetHistogram() == object);
         std::cout << std::endl;
      }
   }
}
