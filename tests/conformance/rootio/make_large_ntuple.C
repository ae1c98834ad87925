// Write an RNTuple of about so many bytes, nothing compressed.
//
//   root.exe -b -q -l 'make_large_ntuple.C("out.root", 2400000000)'

#include "ROOT/RNTupleModel.hxx"
#include "ROOT/RNTupleWriteOptions.hxx"
#include "ROOT/RNTupleWriter.hxx"
#include "TFile.h"
#include <string>
#include <vector>

void make_large_ntuple(const char *path, Long64_t bytes)
{
   const int length = 50000;
   auto model = ROOT::RNTupleModel::Create();
   auto number = model->MakeField<int>("number");
   auto jagged = model->MakeField<std::vector<float>>("jagged");
   auto words = model->MakeField<std::vector<std::string>>("words");
   auto payload = model->MakeField<std::vector<double>>("payload");
   payload->resize(length);
   ROOT::RNTupleWriteOptions options;
   options.SetCompression(0);
   TFile file(path, "recreate", "", 0);
   auto writer = ROOT::RNTupleWriter::Append(std::move(model), "Events", file, options);
   const Long64_t entries = bytes / (length * Long64_t(sizeof(double)));
   for (*number = 0; *number < entries; ++*number) {
      jagged->assign(*number % 8, 0.1f * *number);
      words->assign(*number % 3, "word " + std::to_string(*number));
      for (int k = 0; k < length; ++k)
         (*payload)[k] = double(*number) * length + k;
      writer->Fill();
   }
}
