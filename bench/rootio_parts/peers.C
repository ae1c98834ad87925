// Do with ROOT what evstream.rootio does, and say how long it took.
//
//   root.exe -b -q -l -e '.L inputs_C.so' 'peers.C+O'
//
// Reads one request a line, words between tabs, and answers each with one line:
// "@@", wall seconds, CPU seconds, entries. What ROOT prints beside is no answer.
// After "fork" a child does so until "end": a process that has loaded all and done nothing.
//
//   clone     SOURCE TREE START STOP OUT   CloneTree(0), GetEntry and Fill; of an RNTuple
//                                          RNTupleReader, LoadEntry and Fill
//   snapshot  SOURCE TREE START STOP OUT   RDataFrame::Range, Snapshot
//   select    SOURCE TREE MASK OUT         Filter by a file of one byte an entry, Snapshot
//   merge     OUT SOURCE SOURCE ...        what hadd -ff does, with its own class
//
// The product has the source's format and compression. ROOT runs on one thread, as it does
// unless told otherwise.

#include "ROOT/RDataFrame.hxx"
#include "ROOT/RNTupleModel.hxx"
#include "ROOT/RNTupleReader.hxx"
#include "ROOT/RNTupleWriteOptions.hxx"
#include "ROOT/RNTupleWriter.hxx"
#include "ROOT/RSnapshotOptions.hxx"
#include "TFile.h"
#include "TFileMerger.h"
#include "TKey.h"
#include "TObjArray.h"
#include "TObjString.h"
#include "TROOT.h"
#include "TString.h"
#include "TTree.h"
#include <chrono>
#include <ctime>
#include <fstream>
#include <iostream>
#include <iterator>
#include <memory>
#include <string>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

using Words = std::vector<std::string>;

static bool isNTuple(TFile &file, const std::string &name)
{
   auto *key = file.GetKey(name.c_str());
   return key && TString(key->GetClassName()) == "ROOT::RNTuple";
}

static Long64_t cloneNTuple(const Words &w, int compression)
{
   auto reader = ROOT::RNTupleReader::Open(w[2], w[1]);
   ROOT::RNTupleWriteOptions options;
   options.SetCompression(compression);
   auto writer = ROOT::RNTupleWriter::Recreate(reader->GetDescriptor().CreateModel(), w[2], w[5], options);
   auto written = writer->CreateEntry();
   auto read = reader->GetModel().CreateBareEntry();
   for (auto &value : *written)
      read->BindRawPtr<void>(value.GetField().GetQualifiedFieldName(), value.GetPtr<void>().get());
   Long64_t start = std::stoll(w[3]), stop = std::stoll(w[4]);
   for (Long64_t entry = start; entry < stop; ++entry) {
      reader->LoadEntry(entry, *read);
      writer->Fill(*written);
   }
   writer.reset();
   return stop - start;
}

static Long64_t clone(const Words &w)
{
   std::unique_ptr<TFile> in(TFile::Open(w[1].c_str()));
   if (isNTuple(*in, w[2]))
      return cloneNTuple(w, in->GetCompressionSettings());
   auto *tree = in->Get<TTree>(w[2].c_str());
   Long64_t start = std::stoll(w[3]), stop = std::stoll(w[4]);
   TFile out(w[5].c_str(), "RECREATE", "", in->GetCompressionSettings());
   TTree *copy = tree->CloneTree(0);
   for (Long64_t entry = start; entry < stop; ++entry) {
      tree->GetEntry(entry);
      copy->Fill();
   }
   out.Write();
   return copy->GetEntries();
}

static ROOT::RDF::RSnapshotOptions like(const std::string &source, const std::string &tree)
{
   std::unique_ptr<TFile> in(TFile::Open(source.c_str()));
   ROOT::RDF::RSnapshotOptions options;
   using Format = ROOT::RDF::ESnapshotOutputFormat;
   options.fOutputFormat = isNTuple(*in, tree) ? Format::kRNTuple : Format::kTTree;
   options.fCompressionAlgorithm =
      static_cast<ROOT::RCompressionSetting::EAlgorithm::EValues>(in->GetCompressionAlgorithm());
   options.fCompressionLevel = in->GetCompressionLevel();
   options.fOverwriteIfExists = true;
   // Vectors stay vectors: the product's types are the source's.
   options.fVector2RVec = false;
   return options;
}

static Long64_t snapshot(const Words &w)
{
   ROOT::RDataFrame frame(w[2], w[1]);
   auto part = frame.Range(std::stoul(w[3]), std::stoul(w[4]));
   auto count = part.Count();
   part.Snapshot(w[2], w[5], "", like(w[1], w[2]));
   return *count;
}

static Long64_t select(const Words &w)
{
   std::ifstream file(w[3], std::ios::binary);
   std::vector<char> mask((std::istreambuf_iterator<char>(file)), {});
   ROOT::RDataFrame frame(w[2], w[1]);
   auto part = frame.Range(0, mask.size()).Filter([&mask](ULong64_t entry) { return mask[entry] != 0; }, {"rdfentry_"});
   auto count = part.Count();
   part.Snapshot(w[2], w[4], "", like(w[1], w[2]));
   return *count;
}

static Long64_t merge(const Words &w)
{
   std::unique_ptr<TFile> first(TFile::Open(w[2].c_str()));
   int compression = first->GetCompressionSettings();
   first.reset();
   TFileMerger merger(false, false);
   merger.SetFastMethod(true);
   merger.SetPrintLevel(0);
   merger.OutputFile(w[1].c_str(), true, compression);
   for (std::size_t k = 2; k < w.size(); ++k)
      merger.AddFile(w[k].c_str(), false);
   return merger.Merge() ? 0 : -1;
}

static void answer(const std::string &line)
{
   Words words;
   std::unique_ptr<TObjArray> parts(TString(line).Tokenize("\t"));
   for (auto *part : *parts)
      words.push_back(static_cast<TObjString *>(part)->GetString().Data());
   auto wall = std::chrono::steady_clock::now();
   auto cpu = std::clock();
   Long64_t entries = words[0] == "clone"      ? clone(words)
                      : words[0] == "snapshot" ? snapshot(words)
                      : words[0] == "select"   ? select(words)
                      : words[0] == "merge"    ? merge(words)
                                               : -1;
   double cpu_s = double(std::clock() - cpu) / CLOCKS_PER_SEC;
   std::chrono::duration<double> wall_s = std::chrono::steady_clock::now() - wall;
   std::cout << "\n@@ " << wall_s.count() << " " << cpu_s << " " << entries << std::endl;
}

void peers()
{
   std::string line;
   std::cout << "@@ ready" << std::endl;
   while (std::getline(std::cin, line) && line != "quit") {
      if (line != "fork") {
         answer(line);
         continue;
      }
      // Nothing is read ahead: whoever asks waits for the answer.
      pid_t child = fork();
      if (child == 0) {
         std::cout << "@@ ready" << std::endl;
         while (std::getline(std::cin, line) && line != "end")
            answer(line);
         _exit(0);
      }
      int status = 0;
      waitpid(child, &status, 0);
      std::cout << "\n@@ ended " << status << std::endl;
   }
}
