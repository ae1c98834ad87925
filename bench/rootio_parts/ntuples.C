// Write a tree's entries as an RNTuple, for the benchmark of evstream.rootio.
//
//   root.exe -b -q -l 'ntuples.C("in.root", "Events", "out.root", 101, 6000000)'
//
// Arguments: file, tree, product, compression (100 * algorithm + level), and about how many
// bytes a cluster has. Counted arrays become vectors, as RNTuple knows no others.

#include "ROOT/RDataFrame.hxx"
#include "ROOT/RSnapshotOptions.hxx"
#include "TString.h"

void ntuples(const char *source, const char *tree, const char *path, int compression, std::size_t clusterBytes)
{
   TString partial = TString(path) + ".partial";
   ROOT::RDF::RSnapshotOptions options;
   options.fOutputFormat = ROOT::RDF::ESnapshotOutputFormat::kRNTuple;
   options.fCompressionAlgorithm =
      static_cast<ROOT::RCompressionSetting::EAlgorithm::EValues>(compression / 100);
   options.fCompressionLevel = compression % 100;
   options.fApproxZippedClusterSize = clusterBytes;
   options.fMaxUnzippedClusterSize = 10 * clusterBytes;
   options.fVector2RVec = false;
   ROOT::RDataFrame(tree, source).Snapshot(tree, partial.Data(), "", options);
   rename(partial, path);
}
