// Opens a product by its URL. The handler that this ROOT brings for http:// names no method, so that
// nothing is opened by it; it is replaced by one that does.
void open_by_url(const char *url) {
  gPluginMgr->FindHandler("TFile", "http:");
  gPluginMgr->RemoveHandler("TFile", "^http[s]?:");
  gPluginMgr->AddHandler("TFile", "^http[s]?:", "ROOT::Deprecated::TWebFile", "Net",
                         "TWebFile(const char*,Option_t*)");
  std::unique_ptr<TFile> file(TFile::Open(url));
  if (!file || file->IsZombie()) {
    std::cout << "NOT OPENED" << std::endl;
    return;
  }
  auto tree = file->Get<TTree>("Events");
  std::cout << "READ " << tree->GetEntries() << " " << tree->GetMaximum("event") << std::endl;
}
