// ROOT's turn: read branches of files entry by entry, and sum the bits of their values.
//
//   reader CACHE CPU_S_PER_ENTRY BRANCH,BRANCH,... URL...
//
// CACHE is "cache" or "ahead": TTreeCache of 30 MB, without or with asynchronous prefetching.
// Prints what work.py prints.

#include "TEnv.h"
#include "TFile.h"
#include "TLeaf.h"
#include "TTree.h"
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

template <typename T>
static std::uint64_t sum(const void *values, int count)
{
   std::uint64_t total = 0;
   auto *bits = static_cast<const T *>(values);
   for (int k = 0; k < count; ++k)
      total += bits[k];
   return total;
}

static std::uint64_t sum_of(TLeaf &leaf, int count)
{
   void *values = leaf.GetValuePointer();
   switch (leaf.GetLenType()) {
   case 1: return sum<std::uint8_t>(values, count);
   case 4: return sum<std::uint32_t>(values, count);
   default: return sum<std::uint64_t>(values, count);
   }
}

static double cpu_s()
{
   timespec t;
   clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
   return t.tv_sec + 1e-9 * t.tv_nsec;
}

int main(int count, char **words)
{
   if (count < 5)
      return 2;
   gEnv->SetValue("TFile.AsyncPrefetching", !std::strcmp(words[1], "ahead"));
   double burn = std::stod(words[2]);
   std::vector<std::string> names;
   std::istringstream given(words[3]);
   for (std::string name; std::getline(given, name, ',');)
      names.push_back(name);
   struct Sum {
      std::uint64_t values = 0, sum = 0;
   };
   std::map<std::string, Sum> sums;
   for (int k = 4; k < count; ++k) {
      std::unique_ptr<TFile> file(TFile::Open(words[k]));
      auto *tree = file ? file->Get<TTree>("Events") : nullptr;
      if (!tree)
         return 1;
      tree->SetBranchStatus("*", false);
      tree->SetCacheSize(30000000);
      std::vector<std::pair<TLeaf *, Sum *>> leaves;
      for (auto &name : names) {
         tree->SetBranchStatus(name.c_str(), true);
         tree->AddBranchToCache(name.c_str());
         leaves.emplace_back(tree->GetLeaf(name.c_str()), &sums[name]);
      }
      tree->StopCacheLearningPhase();
      Long64_t entries = tree->GetEntries();
      double owed = 0;
      for (Long64_t entry = 0; entry < entries; ++entry) {
         if (tree->GetEntry(entry) <= 0)
            return 1;
         for (auto &[leaf, total] : leaves) {
            int length = leaf->GetLen();
            total->values += length;
            total->sum += sum_of(*leaf, length);
         }
         // In pieces that a clock can tell.
         owed += burn;
         if (owed > 0.01 || (entry + 1 == entries && owed > 0)) {
            for (double until = cpu_s() + owed; cpu_s() < until;)
               ;
            owed = 0;
         }
      }
   }
   const char *separator = "{";
   for (auto &[name, total] : sums) {
      std::printf("%s\"%s\": [%llu, %llu]", separator, name.c_str(), (unsigned long long)total.values,
                  (unsigned long long)total.sum);
      separator = ", ";
   }
   std::puts("}");
}
