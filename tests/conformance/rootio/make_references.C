// Write objects and references to them, as processes of their own do.
//
//   root.exe -b -q -l 'make_references.C("out.root", "anna")'
//
// Arguments: file, and whose objects they are.

#include "TFile.h"
#include "TNamed.h"
#include "TObjArray.h"
#include "TRefArray.h"

void make_references(const char *path, const char *who)
{
   TFile file(path, "recreate");
   TObjArray things;
   TRefArray references;
   for (int i = 0; i < 3; ++i) {
      auto *thing = new TNamed(TString::Format("%s%d", who, i).Data(), who);
      things.Add(thing);
      references.Add(thing);
   }
   file.WriteObject(&things, "things");
   file.WriteObject(&references, "references");
   TNamed("text", "the same").Write();
   TNamed referenced("referenced", "the same");
   references.Add(&referenced);
   referenced.Write();
}
