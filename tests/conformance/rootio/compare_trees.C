// Compare a product's tree with a range of its source's, entry by entry, with ROOT alone.
//
//   root.exe -b -q -l 'compare_trees.C("list.txt")'
//
// Each line of the list: source file, tree, first entry, product file, tree, first
// entry, number of entries. Leaves of plain branches are compared as bytes in memory;
// objects are streamed to memory through their class and the bytes compared, so that
// nothing depends on how they were split. Prints "EQUAL <branches> <entries>" or
// "DIFFERENT <why>" a line, and "DONE" at the end.

#include "TBranchElement.h"
#include "TBufferFile.h"
#include "TError.h"
#include "TClass.h"
#include "TFile.h"
#include "TLeaf.h"
#include "TLeafC.h"
#include "TLeafObject.h"
#include "TROOT.h"
#include "TTree.h"
#include <fstream>
#include <iostream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

struct OneBranch {
   TBranch *source;
   TBranch *product;
};

static bool holds_object(TBranch *branch)
{
   return branch->InheritsFrom(TBranchElement::Class()) || branch->InheritsFrom("TBranchObject");
}

static std::string object_bytes(TBranch *branch, bool &known)
{
   TClass *type = nullptr;
   void *object = nullptr;
   if (auto element = dynamic_cast<TBranchElement *>(branch)) {
      if (element->GetID() >= 0 && !element->GetMother())
         return "";
      type = TClass::GetClass(element->GetClassName());
      object = element->GetObject();
   } else {
      type = TClass::GetClass(branch->GetClassName());
      object = *reinterpret_cast<void **>(branch->GetAddress());
   }
   if (!type || !object) {
      known = false;
      return "";
   }
   if (type->InheritsFrom(TObject::Class()) && type->HasDataMemberInfo() == false && !type->IsLoaded() &&
       !type->GetStreamerInfo()) {
      known = false;
      return "";
   }
   TBufferFile buffer(TBuffer::kWrite, 64000);
   type->Streamer(object, buffer);
   return std::string(buffer.Buffer(), buffer.Length());
}

static std::string leaf_bytes(TBranch *branch)
{
   std::string out;
   for (auto *item : *branch->GetListOfLeaves()) {
      auto *leaf = static_cast<TLeaf *>(item);
      int count = leaf->GetLen();
      out += std::to_string(count) + ":";
      if (leaf->InheritsFrom(TLeafC::Class()))
         out += static_cast<const char *>(leaf->GetValuePointer());
      else if (!leaf->InheritsFrom(TLeafObject::Class()))
         out.append(static_cast<const char *>(leaf->GetValuePointer()), size_t(count) * leaf->GetLenType());
   }
   return out;
}

static std::string compare(const std::string &in, const std::string &in_tree, Long64_t in_first, const std::string &made,
                           const std::string &made_tree, Long64_t made_first, Long64_t entries)
{
   std::unique_ptr<TFile> a(TFile::Open(in.c_str())), b(TFile::Open(made.c_str()));
   if (!a || a->IsZombie() || !b || b->IsZombie())
      return "DIFFERENT cannot open";
   if (b->TestBit(TFile::kRecovered))
      return "DIFFERENT needed recovery";
   auto *source = a->Get<TTree>(in_tree.c_str());
   auto *product = b->Get<TTree>(made_tree.c_str());
   if (!source || !product)
      return "DIFFERENT no tree";
   if (product->GetEntries() < made_first + entries)
      return "DIFFERENT entries " + std::to_string(product->GetEntries());
   std::vector<OneBranch> branches;
   source->SetBranchStatus("*", false);
   for (auto *item : *product->GetListOfBranches()) {
      auto *branch = static_cast<TBranch *>(item);
      auto *other = static_cast<TBranch *>(source->GetListOfBranches()->FindObject(branch->GetName()));
      if (!other)
         return std::string("DIFFERENT extra branch ") + branch->GetName();
      branches.push_back({other, branch});
   }
   for (auto *item : *product->GetListOfLeaves()) {
      auto *branch = static_cast<TLeaf *>(item)->GetBranch();
      for (TBranch *up = branch; up;) {
         if (auto *found = source->FindBranch(up->GetFullName()))
            found->SetStatus(true);
         else if (auto *other = source->FindBranch(up->GetName()))
            other->SetStatus(true);
         TBranch *mother = up->GetMother();
         up = mother == up ? nullptr : mother;
      }
   }
   // Counters first: they set the lengths of the others.
   for (auto *item : *source->GetListOfLeaves()) {
      auto *leaf = static_cast<TLeaf *>(item);
      if (leaf->GetLeafCount())
         leaf->GetLeafCount()->GetBranch()->SetStatus(true);
   }
   long compared = 0;
   std::string unknown;
   for (Long64_t entry = 0; entry < entries; ++entry) {
      if (source->LoadTree(in_first + entry) < 0 || product->LoadTree(made_first + entry) < 0)
         return "DIFFERENT cannot load entry " + std::to_string(entry);
      if (source->GetEntry(in_first + entry) < 0 || product->GetEntry(made_first + entry) < 0)
         return "DIFFERENT cannot read entry " + std::to_string(entry);
      for (auto &one : branches) {
         bool known = true;
         std::string x, y;
         if (holds_object(one.source)) {
            x = object_bytes(one.source, known);
            y = object_bytes(one.product, known);
         } else {
            x = leaf_bytes(one.source);
            y = leaf_bytes(one.product);
         }
         if (!known && entry == 0)
            unknown += std::string(" ") + one.product->GetName();
         if (x != y)
            return std::string("DIFFERENT ") + one.product->GetName() + " at entry " + std::to_string(entry);
         ++compared;
      }
   }
   std::ostringstream out;
   out << "EQUAL " << branches.size() << " " << product->GetListOfLeaves()->GetEntries() << " " << entries;
   if (!unknown.empty())
      out << " UNKNOWN" << unknown;
   return out.str();
}

void compare_trees(const char *list)
{
   gErrorIgnoreLevel = kWarning;
   std::ifstream lines(list);
   std::string line;
   while (std::getline(lines, line)) {
      std::istringstream words(line);
      std::string in, in_tree, made, made_tree;
      Long64_t in_first, made_first, entries;
      std::getline(words, in, '\t');
      std::getline(words, in_tree, '\t');
      words >> in_first;
      words.ignore(1);
      std::getline(words, made, '\t');
      std::getline(words, made_tree, '\t');
      words >> made_first >> entries;
      std::cout << compare(in, in_tree, in_first, made, made_tree, made_first, entries) << std::endl;
   }
   std::cout << "DONE" << std::endl;
}
