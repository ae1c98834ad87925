// Compare a product's tree with a range of its source's, entry by entry, with ROOT alone.
//
//   root.exe -b -q -l 'compare_trees.C("list.txt", "classes.so")'
//
// Each line of the list, with tabs between: source file, tree, first entry, product
// file, tree, first entry, number of entries, "objects" or "bytes". Instead of a first
// entry of the source, "@FILE" names a file with its entries, one a line.
//
// Every branch with baskets, at any depth: the bytes of each entry as ROOT finds them in
// the decompressed basket. With "objects" also every top-level branch as ROOT reads it:
// leaves as they are in memory, objects streamed through their class, so that nothing
// depends on how they were split. Members that no branch fills hold whatever the memory
// held: where streamed objects differ, but not the values of their branches' leaves, or
// where two readings of the source differ too, the object counts as irreproducible.
//
// Prints "EQUAL <branches> <objects> <irreproducible> <entries>" or "DIFFERENT <why>" a
// line, and "DONE" at the end.

#include "TBasket.h"
#include "TBranchElement.h"
#include "TBufferFile.h"
#include "TError.h"
#include "TClass.h"
#include "TFile.h"
#include "TLeaf.h"
#include "TLeafC.h"
#include "TLeafObject.h"
#include "TMath.h"
#include "TObjArray.h"
#include "TSystem.h"
#include "TTree.h"
#include "ROOT/TIOFeatures.hxx"
#include <fstream>
#include <iostream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

// One branch in the source, in a second reading of the source, and in the product.
struct OneBranch {
   TBranch *source;
   TBranch *again;
   TBranch *product;
   bool reproducible = true;
};

static bool holds_object(TBranch *branch)
{
   return branch->InheritsFrom(TBranchElement::Class()) || branch->InheritsFrom("TBranchObject");
}

static std::string object_bytes(TBranch *branch)
{
   TClass *type = nullptr;
   void *object = nullptr;
   if (auto element = dynamic_cast<TBranchElement *>(branch)) {
      type = TClass::GetClass(element->GetClassName());
      object = element->GetObject();
   } else {
      type = TClass::GetClass(branch->GetClassName());
      auto *address = reinterpret_cast<void **>(branch->GetAddress());
      object = address ? *address : nullptr;
   }
   if (!type || !object)
      return "nothing";
   TBufferFile buffer(TBuffer::kWrite, 64000);
   type->Streamer(object, buffer);
   return std::string(buffer.Buffer(), buffer.Length());
}

static std::string leaf_bytes(TBranch *branch)
{
   std::string out;
   for (auto *item : *branch->GetListOfLeaves()) {
      auto *leaf = static_cast<TLeaf *>(item);
      // A text's length is that of the longest one in its file.
      if (leaf->InheritsFrom(TLeafC::Class())) {
         out += static_cast<const char *>(leaf->GetValuePointer());
         continue;
      }
      int count = leaf->GetLen();
      out += std::to_string(count) + ":";
      if (!leaf->InheritsFrom(TLeafObject::Class()))
         out.append(static_cast<const char *>(leaf->GetValuePointer()), size_t(count) * leaf->GetLenType());
   }
   return out;
}

// The numbers that ROOT's formulas see of a split object, branch by branch.
static std::string leaf_values(TBranch *branch)
{
   std::string out;
   for (auto *item : *branch->GetListOfLeaves()) {
      auto *leaf = static_cast<TLeaf *>(item);
      int count = leaf->GetLen();
      out += std::string(leaf->GetName()) + "*" + std::to_string(count);
      for (int i = 0; i < count; ++i)
         out += " " + std::to_string(leaf->GetValue(i));
   }
   for (auto *item : *branch->GetListOfBranches())
      out += leaf_values(static_cast<TBranch *>(item));
   return out;
}

static std::string value(TBranch *branch)
{
   return holds_object(branch) ? object_bytes(branch) : leaf_bytes(branch);
}

// Offsets that follow from a counter (kGenerateOffsetMap) come out right only if a basket's
// first entry is read first: ROOT 6.40 counts from where it enters. Such branches are
// compared as ROOT reads them from the tree's beginning on.
static bool makes_offsets(TBranch *branch)
{
   return branch->GetEntryOffsetLen() &&
          branch->GetIOFeatures().Test(ROOT::Experimental::EIOFeatures::kGenerateOffsetMap);
}

// The bytes of one entry in its decompressed basket; "" where the branch has none.
static std::string stored_bytes(TBranch *branch, Long64_t entry)
{
   Long64_t *starts = branch->GetBasketEntry();
   Int_t count = branch->GetWriteBasket();
   Int_t number = TMath::BinarySearch(Long64_t(count + 1), starts, entry);
   if (number < 0)
      return "no basket";
   if (number == count && !branch->GetListOfBaskets()->At(number))
      return "no basket";
   TBasket *basket = branch->GetBasket(number);
   if (!basket)
      return "unreadable";
   Int_t place = entry - starts[number];
   Int_t *offsets = basket->GetEntryOffset();
   Int_t begin, end;
   if (offsets) {
      begin = offsets[place];
      end = place + 1 < basket->GetNevBuf() ? offsets[place + 1] : basket->GetLast();
   } else {
      begin = basket->GetKeylen() + place * basket->GetNevBufSize();
      end = begin + basket->GetNevBufSize();
   }
   return std::string(basket->GetBufferRef()->Buffer() + begin, end - begin);
}

static void add_all(TObjArray *source, TObjArray *product, std::vector<OneBranch> &out, std::string &missing)
{
   for (auto *item : *product) {
      auto *branch = static_cast<TBranch *>(item);
      auto *other = static_cast<TBranch *>(source->FindObject(branch->GetName()));
      if (!other) {
         missing = branch->GetName();
         return;
      }
      out.push_back({other, nullptr, branch});
      add_all(other->GetListOfBranches(), branch->GetListOfBranches(), out, missing);
   }
}

// Where objects have pointers, entries of a selection keep their positions: zeros trail them.
static bool same_bytes(const std::string &x, const std::string &y, bool scattered)
{
   if (x == y)
      return true;
   return scattered && y.size() > x.size() && y.compare(0, x.size(), x) == 0 &&
          y.find_first_not_of('\0', x.size()) == std::string::npos;
}

static std::string compare_stored(TTree *source, TTree *product, const std::vector<Long64_t> &in, Long64_t made_first,
                                  Long64_t entries, bool scattered, long &count)
{
   std::vector<OneBranch> all;
   std::string missing;
   add_all(source->GetListOfBranches(), product->GetListOfBranches(), all, missing);
   if (!missing.empty())
      return "extra branch " + missing;
   for (auto &one : all) {
      bool has = one.source->GetWriteBasket() > 0 || one.source->GetListOfBaskets()->GetEntries() > 0;
      if (!has || makes_offsets(one.source))
         continue;
      ++count;
      for (Long64_t entry = 0; entry < entries; ++entry) {
         auto x = stored_bytes(one.source, in[entry]), y = stored_bytes(one.product, made_first + entry);
         if (!same_bytes(x, y, scattered && holds_object(one.product)))
            return std::string(one.product->GetName()) + " stored at entry " + std::to_string(entry);
      }
      one.source->DropBaskets("all");
      one.product->DropBaskets("all");
   }
   return "";
}

static std::string compare_objects(TTree *source, TTree *again, TTree *product, const std::vector<Long64_t> &in, Long64_t made_first,
                                   Long64_t entries, long &count, long &irreproducible)
{
   std::vector<OneBranch> branches;
   for (auto *item : *product->GetListOfBranches()) {
      auto *branch = static_cast<TBranch *>(item);
      branches.push_back({static_cast<TBranch *>(source->GetListOfBranches()->FindObject(branch->GetName())),
                          static_cast<TBranch *>(again->GetListOfBranches()->FindObject(branch->GetName())), branch});
   }
   for (auto *tree : {source, again}) {
      tree->SetBranchStatus("*", false);
      std::vector<OneBranch> same;
      std::string missing;
      add_all(tree->GetListOfBranches(), product->GetListOfBranches(), same, missing);
      for (auto &one : same)
         one.source->SetStatus(true);
   }
   // A TBranchObject reads only into what it was given.
   for (auto &one : branches)
      for (auto *branch : {one.source, one.again, one.product})
         if (branch->InheritsFrom("TBranchObject"))
            branch->SetAddress(new TObject *(nullptr));
   for (auto &one : branches)
      if (makes_offsets(one.source))
         for (Long64_t entry = 0; entries && entry < in[0]; ++entry) {
            source->GetEntry(entry);
            again->GetEntry(entry);
         }
   for (Long64_t entry = 0; entry < entries; ++entry) {
      if (source->GetEntry(in[entry]) < 0 || again->GetEntry(in[entry]) < 0 ||
          product->GetEntry(made_first + entry) < 0)
         return "cannot read entry " + std::to_string(entry);
      for (auto &one : branches) {
         if (!one.reproducible)
            continue;
         auto x = value(one.source), y = value(one.product);
         if (x == y)
            continue;
         if (x != value(one.again) || leaf_values(one.source) == leaf_values(one.product))
            one.reproducible = false;
         else
            return std::string(one.product->GetName()) + " at entry " + std::to_string(entry);
      }
   }
   for (auto &one : branches)
      (one.reproducible ? count : irreproducible) += 1;
   return "";
}

static std::string compare(const std::string &in, const std::string &in_tree, const std::string &which, const std::string &made,
                           const std::string &made_tree, Long64_t made_first, Long64_t entries, bool objects)
{
   std::unique_ptr<TFile> a(TFile::Open(in.c_str())), b(TFile::Open(made.c_str())), c(TFile::Open(in.c_str()));
   if (!a || a->IsZombie() || !b || b->IsZombie())
      return "DIFFERENT cannot open";
   if (b->TestBit(TFile::kRecovered))
      return "DIFFERENT needed recovery";
   auto *source = a->Get<TTree>(in_tree.c_str());
   auto *product = b->Get<TTree>(made_tree.c_str());
   auto *again = c->Get<TTree>(in_tree.c_str());
   if (!source || !product)
      return "DIFFERENT no tree";
   if (product->GetEntries() < made_first + entries)
      return "DIFFERENT entries " + std::to_string(product->GetEntries());
   bool scattered = which[0] == '@';
   std::vector<Long64_t> wanted;
   if (scattered) {
      std::ifstream list(which.substr(1));
      for (Long64_t entry; list >> entry;)
         wanted.push_back(entry);
      if (product->GetEntries() != entries || Long64_t(wanted.size()) != entries)
         return "DIFFERENT entries " + std::to_string(product->GetEntries());
   } else {
      for (Long64_t entry = 0; entry < entries; ++entry)
         wanted.push_back(std::stoll(which) + entry);
   }
   long stored = 0, read = 0, irreproducible = 0;
   auto why = compare_stored(source, product, wanted, made_first, entries, scattered, stored);
   if (why.empty() && objects)
      why = compare_objects(source, again, product, wanted, made_first, entries, read, irreproducible);
   if (!why.empty())
      return "DIFFERENT " + why;
   std::ostringstream out;
   out << "EQUAL " << stored << " " << read << " " << irreproducible << " " << entries;
   return out.str();
}

void compare_trees(const char *list, const char *library = "")
{
   if (*library && gSystem->Load(library) < 0)
      return;
   gErrorIgnoreLevel = kError;
   std::ifstream lines(list);
   std::string line;
   while (std::getline(lines, line)) {
      std::istringstream words(line);
      std::string in, in_tree, which, made, made_tree, depth;
      Long64_t made_first, entries;
      std::getline(words, in, '\t');
      std::getline(words, in_tree, '\t');
      words >> which;
      words.ignore(1);
      std::getline(words, made, '\t');
      std::getline(words, made_tree, '\t');
      words >> made_first >> entries >> depth;
      std::cout << compare(in, in_tree, which, made, made_tree, made_first, entries, depth == "objects")
                << std::endl;
   }
   std::cout << "DONE" << std::endl;
}
