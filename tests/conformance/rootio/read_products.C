// Use products as people do: chains, RDataFrame on one thread and on several, TTree::Draw
// and Scan's formulas, CloneTree, CopyTree; each against the source.
//
//   root.exe -b -q -l 'read_products.C("source.root", "Events", "x", "list.txt", "clone.root")'
//
// The list has the slices of the whole tree in order, one a line. "x" is a number or an
// array of numbers. Prints "EQUAL <ways>" or "DIFFERENT <way> <expected> <found>".

#include "ROOT/RDataFrame.hxx"
#include "TChain.h"
#include "TFile.h"
#include "TH1.h"
#include "TMath.h"
#include "TROOT.h"
#include "TTree.h"
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

static int ways = 0;
static bool fine = true;

static void same(const char *way, double expected, double found)
{
   ++ways;
   if (TMath::Abs(expected - found) > 1e-9 * (1 + TMath::Abs(expected))) {
      std::cout << "DIFFERENT " << way << " " << expected << " " << found << std::endl;
      fine = false;
   }
}

// Sum over all values by TTree::Draw, which goes through TTreeFormula.
static double drawn(TTree &tree, const std::string &name, const std::string &cut = "")
{
   tree.SetEstimate(10000000); // more than any of these draws, arrays included
   auto count = tree.Draw(name.c_str(), cut.c_str(), "goff");
   double sum = count;
   for (Long64_t i = 0; i < count; ++i)
      sum += tree.GetV1()[i] * (1 + i % 7); // order counts too
   return sum;
}

static double framed(ROOT::RDataFrame frame, const std::string &name)
{
   return *frame.Define("evstream_sum", "double(" + name + ")").Sum("evstream_sum");
}

static double framed_array(ROOT::RDataFrame frame, const std::string &name)
{
   return *frame.Define("evstream_sum", "double(ROOT::VecOps::Sum(" + name + "))").Sum("evstream_sum");
}

void read_products(const char *source, const char *tree, const char *number, const char *array, const char *list,
                   const char *clone)
{
   std::vector<std::string> files;
   std::ifstream lines(list);
   for (std::string line; std::getline(lines, line);)
      files.push_back(line);
   TFile in(source);
   auto *whole = in.Get<TTree>(tree);
   TChain chain(tree);
   for (auto &file : files)
      chain.Add(file.c_str());
   same("entries of the chain", whole->GetEntries(), chain.GetEntries());
   for (std::string name : {number, array}) {
      same("Draw on the chain", drawn(*whole, name), drawn(chain, name));
      auto cut = "Entry$ % 3 == 0 && " + name + " > 0";
      same("Draw with a selection", drawn(*whole, name, cut), drawn(chain, name, cut));
   }
   double expected = framed(ROOT::RDataFrame(tree, source), number);
   double expected_array = framed_array(ROOT::RDataFrame(tree, source), array);
   same("RDataFrame of the slices", expected, framed(ROOT::RDataFrame(tree, files), number));
   same("RDataFrame of a chain", expected, framed(ROOT::RDataFrame(chain), number));
   same("RDataFrame of the slices, an array", expected_array, framed_array(ROOT::RDataFrame(tree, files), array));
   ROOT::EnableImplicitMT(2);
   same("RDataFrame on threads", expected, framed(ROOT::RDataFrame(tree, files), number));
   same("RDataFrame on threads, an array", expected_array, framed_array(ROOT::RDataFrame(tree, files), array));
   ROOT::DisableImplicitMT();
   // A fast clone copies baskets by their positions; a slow one reads every entry.
   for (const char *how : {"fast", ""}) {
      TFile out(clone, "recreate");
      auto *copy = chain.CloneTree(-1, how);
      copy->Write();
      same("CloneTree", drawn(*whole, array), drawn(*copy, array));
   }
   TFile part(files.back().c_str());
   auto *last = part.Get<TTree>(tree);
   TFile out(clone, "recreate");
   auto *some = last->CopyTree((std::string(number) + " > 0").c_str());
   same("CopyTree", last->GetEntries((std::string(number) + " > 0").c_str()), some->GetEntries());
   last->SetBranchStatus("*", false);
   last->SetBranchStatus(number, true);
   auto *one = last->CloneTree(-1, "fast");
   same("CloneTree of one branch", drawn(*last, number), drawn(*one, number));
   if (fine)
      std::cout << "EQUAL " << ways << std::endl;
}
