// Write RNTuples with every type and column encoding that ROOT can write.
//
//   root.exe -b -q -l 'make_ntuple_zoo.C+("out.root", 505, 1, 1000, 100, 4, 0)'
//
// Arguments: file, compression (100 * algorithm + level), seed, entries, entries per
// cluster, clusters per group, and a sum of bits:
//    1  pages of at most 64 bytes        2  no checksums of pages
//    4  unbuffered: pages by themselves  8  columns that are stored in turns in two ways
//   16  fields that are added late      32  keys of at most 4 kB, so that pages are split
//   64  clusters of uneven sizes       128  a second streamed class
// Compile it (the "+"), so that the classes get dictionaries.

#include "TFile.h"
#include "TH1.h"
#include "TObject.h"
#include "TRandom3.h"
#include "ROOT/RField.hxx"
#include "ROOT/RNTupleModel.hxx"
#include "ROOT/RNTupleWriteOptions.hxx"
#include "ROOT/RNTupleWriter.hxx"
#include <algorithm>
#include <array>
#include <atomic>
#include <bitset>
#include <cstddef>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <variant>
#include <vector>

enum class NtzColour : short { kRed, kGreen = 300, kBlue = -5 };

struct NtzBase {
   int fBase = 0;
};

struct NtzHit {
   float x = 0, y = 0;
   std::vector<short> path;
};

struct NtzEvent : NtzBase {
   double fWeight = 0;
   Double32_t fDouble32 = 0;
   NtzColour fColour = NtzColour::kRed;
   std::string fText;
   std::vector<NtzHit> fHits;
   std::array<NtzHit, 2> fPair;
   float fMatrix[2][3] = {{0, 0, 0}, {0, 0, 0}};
};

struct NtzStreamed {
   int fNumber = 0;
   std::vector<std::string> fWords;
   std::map<int, float> fMap;
};

struct NtzOther {
   std::string fName;
};

#ifdef __ROOTCLING__
#pragma link C++ enum NtzColour+;
#pragma link C++ class NtzBase+;
#pragma link C++ class NtzHit+;
#pragma link C++ class NtzEvent+;
#pragma link C++ class NtzStreamed+;
#pragma link C++ class NtzOther+;
#pragma link C++ class std::map<std::string, std::vector<int>>+;
#pragma link C++ class std::map<int, float>+;
#pragma link C++ class std::set<int>+;
#endif

using Column = ROOT::ENTupleColumnType;
using Variant = std::variant<int, std::string, std::vector<float>>;

// Every encoding that a type may have, one field each.
struct Encodings {
   std::vector<std::pair<std::string, std::function<void(ROOT::REntry &, TRandom3 &)>>> fill;

   template <typename T, typename Make>
   void add(ROOT::RNTupleModel &model, const std::string &name, Column column, Make make)
   {
      auto field = std::make_unique<ROOT::RField<T>>(name);
      field->SetColumnRepresentatives({{column}});
      model.AddField(std::move(field));
      fill.emplace_back(name, [name, make](ROOT::REntry &entry, TRandom3 &random) {
         *entry.GetPtr<T>(name) = static_cast<T>(make(random));
      });
   }

   explicit Encodings(ROOT::RNTupleModel &model)
   {
      auto whole = [](TRandom3 &r) {
         auto shift = r.Integer(63);
         return static_cast<std::int64_t>((std::uint64_t(r.Integer(1u << 31)) << 32 | r.Integer(1u << 31)) >> shift) *
                (r.Integer(2) ? 1 : -1);
      };
      auto real = [](TRandom3 &r) { return r.Gaus() * 100; };
      auto unit = [](TRandom3 &r) { return r.Uniform(-1, 1); };
      add<bool>(model, "bit", Column::kBit, [](TRandom3 &r) { return r.Integer(3) == 0; });
      add<char>(model, "char", Column::kChar, whole);
      add<std::byte>(model, "byte", Column::kByte, [](TRandom3 &r) { return std::byte(r.Integer(256)); });
      add<std::int8_t>(model, "int8", Column::kInt8, whole);
      add<std::uint8_t>(model, "uint8", Column::kUInt8, whole);
      add<std::int16_t>(model, "int16", Column::kInt16, whole);
      add<std::int16_t>(model, "split_int16", Column::kSplitInt16, whole);
      add<std::uint16_t>(model, "uint16", Column::kUInt16, whole);
      add<std::uint16_t>(model, "split_uint16", Column::kSplitUInt16, whole);
      add<std::int32_t>(model, "int32", Column::kInt32, whole);
      add<std::int32_t>(model, "split_int32", Column::kSplitInt32, whole);
      add<std::uint32_t>(model, "uint32", Column::kUInt32, whole);
      add<std::uint32_t>(model, "split_uint32", Column::kSplitUInt32, whole);
      add<std::int64_t>(model, "int64", Column::kInt64, whole);
      add<std::int64_t>(model, "split_int64", Column::kSplitInt64, whole);
      add<std::uint64_t>(model, "uint64", Column::kUInt64, whole);
      add<std::uint64_t>(model, "split_uint64", Column::kSplitUInt64, whole);
      add<float>(model, "real16", Column::kReal16, unit);
      add<float>(model, "real32", Column::kReal32, real);
      add<float>(model, "split_real32", Column::kSplitReal32, real);
      add<double>(model, "real64", Column::kReal64, real);
      add<double>(model, "split_real64", Column::kSplitReal64, real);
      add<double>(model, "double_as_real32", Column::kSplitReal32, real);
      for (int bits : {10, 17, 31}) {
         auto name = "trunc" + std::to_string(bits);
         auto field = std::make_unique<ROOT::RField<float>>(name);
         field->SetTruncated(bits);
         model.AddField(std::move(field));
         fill.emplace_back(name, [name](ROOT::REntry &e, TRandom3 &r) { *e.GetPtr<float>(name) = r.Gaus(); });
      }
      for (int bits : {1, 7, 20, 32}) {
         auto name = "quant" + std::to_string(bits);
         auto field = std::make_unique<ROOT::RField<double>>(name);
         field->SetQuantized(bits, std::make_pair(-1., 1.));
         model.AddField(std::move(field));
         fill.emplace_back(name, [name](ROOT::REntry &e, TRandom3 &r) { *e.GetPtr<double>(name) = r.Uniform(-1, 1); });
      }
      for (auto column : {Column::kIndex32, Column::kIndex64, Column::kSplitIndex32, Column::kSplitIndex64}) {
         auto name = "texts" + std::to_string(static_cast<int>(column));
         auto field = std::make_unique<ROOT::RField<std::string>>(name);
         field->SetColumnRepresentatives({{column, Column::kChar}});
         model.AddField(std::move(field));
         fill.emplace_back(name, [name](ROOT::REntry &e, TRandom3 &r) {
            *e.GetPtr<std::string>(name) = std::string(r.Integer(4) ? r.Integer(9) : 0, 'a' + r.Integer(26));
         });
      }
   }
};

static NtzHit hit(TRandom3 &random)
{
   NtzHit made;
   made.x = random.Gaus();
   made.y = random.Gaus();
   for (unsigned k = 0; k < random.Integer(3); ++k)
      made.path.push_back(random.Integer(1000));
   return made;
}

static void change(NtzEvent &event, TRandom3 &random)
{
   event.fBase = random.Integer(1000);
   event.fWeight = random.Gaus();
   event.fDouble32 = random.Gaus();
   event.fColour = std::array{NtzColour::kRed, NtzColour::kGreen, NtzColour::kBlue}[random.Integer(3)];
   event.fText = std::string(random.Integer(20), 'x');
   event.fHits.clear();
   for (unsigned k = 0; k < random.Integer(4); ++k)
      event.fHits.push_back(hit(random));
   for (auto &one : event.fPair)
      one = hit(random);
   for (auto &row : event.fMatrix)
      for (auto &cell : row)
         cell = random.Gaus();
}

static void change(Variant &variant, TRandom3 &random)
{
   switch (random.Integer(3)) {
   case 0: variant = static_cast<int>(random.Integer(100)); break;
   case 1: variant = std::string(random.Integer(5), 'v'); break;
   default: variant = std::vector<float>(random.Integer(4), random.Gaus());
   }
}

static void fill(ROOT::REntry &entry, TRandom3 &random, int number, bool second)
{
   auto some = [&](unsigned most) { return random.Integer(most); };
   *entry.GetPtr<int>("number") = number;
   *entry.GetPtr<double>("double32") = random.Gaus();
   *entry.GetPtr<std::string>("text") = std::string(some(12), 'a' + some(26));
   auto &floats = *entry.GetPtr<std::vector<float>>("floats");
   floats.clear();
   for (unsigned k = some(2) ? some(6) : 0; k > 0; --k)
      floats.push_back(random.Gaus());
   auto &deep = *entry.GetPtr<std::vector<std::vector<std::vector<std::int16_t>>>>("deep");
   deep.assign(some(3), {});
   for (auto &outer : deep) {
      outer.assign(some(4), {});
      for (auto &inner : outer)
         inner.assign(some(4), some(30000));
   }
   auto &flags = *entry.GetPtr<std::vector<bool>>("flags");
   flags.clear();
   for (unsigned k = some(9); k > 0; --k)
      flags.push_back(some(2));
   *entry.GetPtr<ROOT::RVec<std::string>>("words") = ROOT::RVec<std::string>(some(3), std::string(some(4), 'w'));
   auto &points = *entry.GetPtr<std::array<std::array<float, 2>, 3>>("points");
   for (auto &point : points)
      point = {static_cast<float>(random.Gaus()), static_cast<float>(random.Gaus())};
   *entry.GetPtr<std::vector<std::array<double, 3>>>("arrays") =
      std::vector<std::array<double, 3>>(some(3), {random.Gaus(), 1, 2});
   auto &several = *entry.GetPtr<std::array<std::vector<int>, 2>>("several");
   for (auto &one : several)
      one.assign(some(4), some(99));
   change(*entry.GetPtr<Variant>("variant"), random);
   auto &variants = *entry.GetPtr<std::vector<Variant>>("variants");
   variants.assign(some(3), {});
   for (auto &one : variants)
      change(one, random);
   auto &maybe = *entry.GetPtr<std::optional<double>>("maybe");
   maybe = some(2) ? std::optional<double>(random.Gaus()) : std::nullopt;
   auto &owned = *entry.GetPtr<std::unique_ptr<NtzHit>>("owned");
   owned = some(3) ? std::make_unique<NtzHit>(hit(random)) : nullptr;
   *entry.GetPtr<std::tuple<int, std::string, float>>("tuple") = {some(9), std::string(some(3), 't'), random.Gaus()};
   *entry.GetPtr<std::pair<int, std::vector<char>>>("pair") = {some(9), std::vector<char>(some(3), 'p')};
   auto &map = *entry.GetPtr<std::map<std::string, std::vector<int>>>("map");
   map.clear();
   for (unsigned k = some(3); k > 0; --k)
      map[std::string(k, 'k')] = std::vector<int>(some(3), k);
   auto &set = *entry.GetPtr<std::set<int>>("set");
   set.clear();
   for (unsigned k = some(5); k > 0; --k)
      set.insert(some(100));
   *entry.GetPtr<std::bitset<13>>("bits13") = std::bitset<13>(some(1 << 13));
   *entry.GetPtr<std::bitset<64>>("bits64") = std::bitset<64>(some(1u << 31));
   *entry.GetPtr<std::atomic<int>>("atomic") = some(1000);
   *entry.GetPtr<NtzColour>("colour") = some(2) ? NtzColour::kGreen : NtzColour::kBlue;
   change(*entry.GetPtr<NtzEvent>("event"), random);
   auto &hits = *entry.GetPtr<std::vector<NtzHit>>("hits");
   hits.clear();
   for (unsigned k = some(5); k > 0; --k)
      hits.push_back(hit(random));
   auto &streamed = *entry.GetPtr<NtzStreamed>("streamed");
   streamed.fNumber = number;
   streamed.fWords.assign(some(3), std::string(some(6), 's'));
   streamed.fMap = {{some(9), static_cast<float>(random.Gaus())}};
   if (second)
      entry.GetPtr<NtzOther>("other_streamed")->fName = std::string(some(5), 'o');
}

static std::unique_ptr<ROOT::RNTupleModel> make_model(bool second)
{
   auto model = ROOT::RNTupleModel::CreateBare();
   model->SetDescription("everything");
   auto number = std::make_unique<ROOT::RField<int>>("number");
   number->SetDescription("counts entries");
   model->AddField(std::move(number));
   model->AddField(ROOT::RFieldBase::Create("double32", "Double32_t").Unwrap());
   for (auto &[name, type] : std::vector<std::pair<std::string, std::string>>{
           {"text", "std::string"}, {"floats", "std::vector<float>"},
           {"deep", "std::vector<std::vector<std::vector<std::int16_t>>>"}, {"flags", "std::vector<bool>"},
           {"words", "ROOT::RVec<std::string>"}, {"points", "std::array<std::array<float,2>,3>"},
           {"arrays", "std::vector<std::array<double,3>>"}, {"several", "std::array<std::vector<int>,2>"},
           {"variant", "std::variant<int,std::string,std::vector<float>>"},
           {"variants", "std::vector<std::variant<int,std::string,std::vector<float>>>"},
           {"maybe", "std::optional<double>"}, {"owned", "std::unique_ptr<NtzHit>"},
           {"tuple", "std::tuple<int,std::string,float>"}, {"pair", "std::pair<int,std::vector<char>>"},
           {"map", "std::map<std::string,std::vector<int>>"}, {"set", "std::set<int>"},
           {"bits13", "std::bitset<13>"}, {"bits64", "std::bitset<64>"}, {"atomic", "std::atomic<int>"},
           {"colour", "NtzColour"}, {"event", "NtzEvent"}, {"hits", "std::vector<NtzHit>"}})
      model->AddField(ROOT::RFieldBase::Create(name, type).Unwrap());
   model->AddField(std::make_unique<ROOT::RStreamerField>("streamed", "NtzStreamed"));
   if (second)
      model->AddField(std::make_unique<ROOT::RStreamerField>("other_streamed", "NtzOther"));
   auto shown = [&](const std::string &name, const std::string &type, std::map<std::string, std::string> from) {
      model->AddProjectedField(ROOT::RFieldBase::Create(name, type).Unwrap(),
                               [from](const std::string &field) { return from.at(field); });
   };
   shown("hits_x", "std::vector<float>", {{"hits_x", "hits"}, {"hits_x._0", "hits._0.x"}});
   shown("n_hits", "ROOT::RNTupleCardinality<std::uint32_t>", {{"n_hits", "hits"}});
   shown("n_floats", "ROOT::RNTupleCardinality<std::uint64_t>", {{"n_floats", "floats"}});
   return model;
}

// Columns in turns: what ROOT's own tests do, since nothing public does it yet.
static void take_turns(ROOT::RNTupleModel &model)
{
   auto number = std::make_unique<ROOT::RField<int>>("turns_number");
   number->SetColumnRepresentatives({{Column::kInt32}, {Column::kSplitInt32}});
   model.AddField(std::move(number));
   auto text = std::make_unique<ROOT::RField<std::string>>("turns_text");
   text->SetColumnRepresentatives({{Column::kIndex32, Column::kChar}, {Column::kSplitIndex64, Column::kChar}});
   model.AddField(std::move(text));
   auto list = std::make_unique<ROOT::RField<std::vector<float>>>("turns_list");
   list->SetColumnRepresentatives({{Column::kSplitIndex64}, {Column::kIndex32}});
   auto *item = list->GetMutableSubfields()[0];
   item->SetColumnRepresentatives({{Column::kReal32}, {Column::kSplitReal32}, {Column::kReal16}});
   model.AddField(std::move(list));
}

static void turn(ROOT::RNTupleModel &model, int cluster)
{
   auto set = [&](const char *name, int ways) {
      auto &field = const_cast<ROOT::RFieldBase &>(model.GetConstField(name));
      ROOT::Internal::RFieldRepresentationModifier::SetPrimaryColumnRepresentation(field, cluster % ways);
   };
   set("turns_number", 2);
   set("turns_text", 2);
   set("turns_list", 2);
   set("turns_list._0", 3);
}

static void fill_turns(ROOT::REntry &entry, TRandom3 &random)
{
   *entry.GetPtr<int>("turns_number") = random.Integer(2000) - 1000;
   *entry.GetPtr<std::string>("turns_text") = std::string(random.Integer(7), 'y');
   auto &list = *entry.GetPtr<std::vector<float>>("turns_list");
   list.assign(random.Integer(4), random.Integer(100));
}

static void add_late(ROOT::RNTupleWriter &writer, int step)
{
   auto updater = writer.CreateModelUpdater();
   updater->BeginUpdate();
   auto name = "late" + std::to_string(step);
   for (auto &[end, type] : std::vector<std::pair<std::string, std::string>>{
           {"_int", "int"}, {"_text", "std::string"}, {"_list", "std::vector<std::vector<float>>"},
           {"_array", "std::array<std::array<double,2>,2>"}, {"_variant", "std::variant<int,std::string,std::vector<float>>"},
           {"_event", "NtzEvent"}, {"_bits", "std::bitset<5>"}, {"_maybe", "std::optional<float>"}})
      updater->AddField(ROOT::RFieldBase::Create(name + end, type).Unwrap());
   updater->AddProjectedField(ROOT::RFieldBase::Create(name + "_n", "ROOT::RNTupleCardinality<std::uint64_t>").Unwrap(),
                              [=](const std::string &) { return name + "_list"; });
   updater->CommitUpdate();
}

static void fill_late(ROOT::REntry &entry, TRandom3 &random, int steps)
{
   for (int step = 0; step < steps; ++step) {
      auto name = "late" + std::to_string(step);
      *entry.GetPtr<int>(name + "_int") = random.Integer(1000);
      *entry.GetPtr<std::string>(name + "_text") = std::string(random.Integer(5), 'l');
      entry.GetPtr<std::vector<std::vector<float>>>(name + "_list")->assign(random.Integer(3), {1, 2});
      *entry.GetPtr<std::array<std::array<double, 2>, 2>>(name + "_array") = {{{random.Gaus(), 1}, {2, random.Gaus()}}};
      change(*entry.GetPtr<Variant>(name + "_variant"), random);
      change(*entry.GetPtr<NtzEvent>(name + "_event"), random);
      *entry.GetPtr<std::bitset<5>>(name + "_bits") = std::bitset<5>(random.Integer(32));
      *entry.GetPtr<std::optional<float>>(name + "_maybe") = random.Gaus();
   }
}

static void write(TDirectory &where, const char *name, int compression, TRandom3 &random, int entries, int per_cluster,
                  int per_group, int bits)
{
   ROOT::RNTupleWriteOptions options;
   options.SetCompression(compression);
   if (bits & 1) {
      options.SetInitialUnzippedPageSize(16);
      options.SetMaxUnzippedPageSize(64);
   }
   options.SetEnablePageChecksums(!(bits & 2));
   options.SetUseBufferedWrite(!(bits & 4));
   if (bits & 32)
      ROOT::Internal::RNTupleWriteOptionsManip::SetMaxKeySize(options, 4096);
   auto model = make_model(bits & 128);
   Encodings encodings(*model);
   if (bits & 8)
      take_turns(*model);
   auto writer = ROOT::RNTupleWriter::Append(std::move(model), name, where, options);
   auto entry = writer->GetModel().CreateEntry();
   int late = 0, clusters = 0, left = per_cluster;
   for (int i = 0; i < entries; ++i) {
      if ((bits & 16) && (i == entries / 3 || i == entries / 2 + 7)) {
         add_late(*writer, late++);
         entry = writer->GetModel().CreateEntry();
      }
      fill(*entry, random, i, bits & 128);
      for (auto &[_, make] : encodings.fill)
         make(*entry, random);
      if (bits & 8)
         fill_turns(*entry, random);
      fill_late(*entry, random, late);
      writer->Fill(*entry);
      if (--left == 0 && i + 1 < entries) {
         ++clusters;
         writer->CommitCluster(clusters % per_group == 0);
         if (bits & 8)
            turn(const_cast<ROOT::RNTupleModel &>(writer->GetModel()), clusters);
         left = bits & 64 ? 1 + random.Integer(2 * per_cluster) : per_cluster;
      }
   }
}

void make_ntuple_zoo(const char *path, int compression, int seed, int entries, int per_cluster, int per_group, int bits)
{
   TH1::AddDirectory(false);
   TRandom3 random(seed);
   TFile file(path, "recreate", "", compression);
   write(file, "zoo", compression, random, entries, per_cluster, per_group, bits);
   auto *deep = file.mkdir("deep", "first")->mkdir("er", "second");
   write(*deep, "small", compression, random, 20, 7, 2, bits & ~16);
   TH1D histogram("histogram", "counts", 10, 0, 10);
   histogram.Fill(random.Integer(10));
   file.cd();
   histogram.Write();
   file.Close();
}
