// Print what the references of each cycle lead to, with all objects at hand.
//
//   root.exe -b -q -l 'read_references.C("file.root")'

#include "TFile.h"
#include "TKey.h"
#include "TRefArray.h"
#include <iostream>
#include <string>

void read_references(const char *path)
{
   TFile file(path);
   for (auto *one : *file.GetListOfKeys())
      if (std::string(one->GetName()) == "things")
         static_cast<TKey *>(one)->ReadObj();
   for (auto *one : *file.GetListOfKeys()) {
      auto *key = static_cast<TKey *>(one);
      if (std::string(key->GetName()) != "references")
         continue;
      auto *references = static_cast<TRefArray *>(key->ReadObj());
      std::cout << "REFERENCES " << key->GetCycle();
      for (int i = 0; i < references->GetEntriesFast(); ++i)
         std::cout << " " << (references->At(i) ? references->At(i)->GetName() : "none");
      std::cout << std::endl;
   }
}
