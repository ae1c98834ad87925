// Compare entries of RNTuples with those of their source, field by field, value by value.
//
//   root.exe -b -q -l 'compare_ntuples.C("pairs.txt", "library.so")'
//
// Each line of the list has, separated by tabs: source, RNTuple, first entry in the source
// (or @FILE with a list of entries), product, RNTuple, first entry in the product, number
// of entries, and a list of fields (separated by commas) that the product must hold, or *.
// Prints EQUAL fields values entries, or DIFFERENT and why, for each line.

#include "ROOT/RField.hxx"
#include "ROOT/RNTupleReader.hxx"
#include "TBufferFile.h"
#include "TClass.h"
#include "TSystem.h"
#include <cstring>
#include <fstream>
#include <iostream>
#include <set>
#include <sstream>
#include <stdexcept>

using Value = ROOT::RFieldBase::RValue;

struct Comparison {
   std::set<std::string> held; // fields of the product
   long values = 0;

   static std::string streamed(const Value &value)
   {
      auto *what = TClass::GetClass(value.GetField().GetTypeName().c_str());
      if (!what)
         throw std::runtime_error("no dictionary for " + value.GetField().GetTypeName());
      TBufferFile buffer(TBuffer::kWrite);
      what->Streamer(value.GetPtr<void>().get(), buffer);
      return std::string(buffer.Buffer(), buffer.Length());
   }

   void same(const Value &one, const Value &other)
   {
      const auto &field = one.GetField();
      auto name = field.GetQualifiedFieldName();
      auto left = field.SplitValue(one);
      auto right = other.GetField().SplitValue(other);
      if (field.GetTypeName() != other.GetField().GetTypeName())
         throw std::runtime_error(name + ": type " + other.GetField().GetTypeName());
      bool record = field.GetStructure() == ROOT::ENTupleStructure::kRecord;
      if (!record && left.size() != right.size())
         throw std::runtime_error(name + ": " + std::to_string(left.size()) + " and " + std::to_string(right.size()) + " values");
      if (field.GetConstSubfields().empty())
         return leaf(one, other);
      for (std::size_t i = 0, j = 0; i < left.size(); ++i) {
         // A product may hold some of a record's members.
         auto inner = left[i].GetField().GetQualifiedFieldName();
         if (record && !held.count(inner))
            continue;
         while (record && j < right.size() && right[j].GetField().GetFieldName() != left[i].GetField().GetFieldName())
            ++j;
         if (j >= right.size() || left[i].GetField().GetFieldName() != right[j].GetField().GetFieldName())
            throw std::runtime_error(inner + ": not the same alternative, or no such member");
         same(left[i], right[j++]);
      }
   }

   void leaf(const Value &one, const Value &other)
   {
      ++values;
      const auto &field = one.GetField();
      auto name = field.GetQualifiedFieldName();
      const auto *left = one.GetPtr<void>().get(), *right = other.GetPtr<void>().get();
      bool equal;
      if (field.GetTypeName() == "std::string")
         equal = *static_cast<const std::string *>(left) == *static_cast<const std::string *>(right);
      else if (field.GetStructure() == ROOT::ENTupleStructure::kStreamer)
         equal = streamed(one) == streamed(other);
      else if (field.GetTypeName() == "std::vector<bool>")
         equal = *static_cast<const std::vector<bool> *>(left) == *static_cast<const std::vector<bool> *>(right);
      else
         equal = std::memcmp(left, right, field.GetValueSize()) == 0;
      if (!equal)
         throw std::runtime_error(name + " differs");
   }
};

static std::vector<long> entries_of(const std::string &first, long count)
{
   std::vector<long> entries;
   if (first[0] == '@') {
      std::ifstream in(first.substr(1));
      for (long entry; in >> entry;)
         entries.push_back(entry);
   } else {
      for (long i = 0; i < count; ++i)
         entries.push_back(std::stol(first) + i);
   }
   return entries;
}

static std::string compare(const std::vector<std::string> &words)
{
   ROOT::RNTupleDescriptor::RCreateModelOptions how;
   how.SetEmulateUnknownTypes(true);
   auto mine = ROOT::RNTupleReader::Open(how, words[1], words[0]);
   auto made = ROOT::RNTupleReader::Open(how, words[4], words[3]);
   long first = std::stol(words[5]), count = std::stol(words[6]);
   auto entries = entries_of(words[2], count);
   if (static_cast<long>(made->GetNEntries()) < first + count || static_cast<long>(entries.size()) != count)
      throw std::runtime_error("the product has " + std::to_string(made->GetNEntries()) + " entries");
   Comparison comparison;
   const auto &descriptor = made->GetDescriptor();
   std::vector<ROOT::DescriptorId_t> pending{descriptor.GetFieldZeroId()};
   while (!pending.empty()) {
      auto id = pending.back();
      pending.pop_back();
      for (const auto &field : descriptor.GetFieldIterable(id)) {
         comparison.held.insert(descriptor.GetQualifiedFieldName(field.GetId()));
         pending.push_back(field.GetId());
      }
   }
   if (words[7] == "*" && made->GetDescriptor().GetNFields() != mine->GetDescriptor().GetNFields())
      throw std::runtime_error("the product has other fields");
   if (words[7] != "*") {
      std::stringstream names(words[7]);
      for (std::string name; std::getline(names, name, ',');)
         if (!comparison.held.count(name))
            throw std::runtime_error("the product has no " + name);
   }
   auto left = mine->GetModel().CreateEntry();
   auto right = made->GetModel().CreateEntry();
   std::map<std::string, const Value *> sources;
   for (const auto &value : *left)
      sources[value.GetField().GetFieldName()] = &value;
   long fields = 0;
   for (const auto &value : *right)
      fields += sources.count(value.GetField().GetFieldName());
   if (fields != std::distance(right->begin(), right->end()))
      throw std::runtime_error("the product has fields that its source lacks");
   for (long i = 0; i < count; ++i) {
      mine->LoadEntry(entries[i], *left);
      made->LoadEntry(first + i, *right);
      for (const auto &value : *right) {
         try {
            comparison.same(*sources.at(value.GetField().GetFieldName()), value);
         } catch (const std::exception &problem) {
            throw std::runtime_error(std::string(problem.what()) + " in entry " + std::to_string(i));
         }
      }
   }
   return std::to_string(fields) + " " + std::to_string(comparison.values) + " " + std::to_string(count);
}

void compare_ntuples(const char *list, const char *library)
{
   if (*library)
      gSystem->Load(library);
   std::ifstream in(list);
   for (std::string line; std::getline(in, line);) {
      std::vector<std::string> words;
      std::stringstream row(line);
      for (std::string word; std::getline(row, word, '\t');)
         words.push_back(word);
      try {
         auto verdict = compare(words);
         std::cout << "EQUAL " << verdict << std::endl;
      } catch (const std::exception &problem) {
         std::string why = problem.what();
         for (auto &c : why)
            if (c == '\n')
               c = ' ';
         std::cout << "DIFFERENT " << why.substr(0, 500) << std::endl;
      }
   }
}
