// Write an RNTuple with a linked attribute set, which says things of ranges of entries.
//
//   root.exe -b -q -l 'make_attributes.C("out.root", 100)'

#include "ROOT/RNTupleAttrWriting.hxx"
#include "ROOT/RNTupleModel.hxx"
#include "ROOT/RNTupleWriter.hxx"
#include "TFile.h"

void make_attributes(const char *path, int entries)
{
   auto model = ROOT::RNTupleModel::Create();
   auto number = model->MakeField<int>("number");
   TFile file(path, "recreate");
   auto writer = ROOT::RNTupleWriter::Append(std::move(model), "Events", file);
   auto said = ROOT::RNTupleModel::Create();
   auto run = said->MakeField<int>("run");
   auto runs = writer->CreateAttributeSet(std::move(said), "Runs");
   for (int first = 0; first < entries; first += 40) {
      auto range = runs->BeginRange();
      for (*number = first; *number < first + 40 && *number < entries; ++*number)
         writer->Fill();
      *run = first;
      runs->CommitRange(std::move(range));
   }
}
