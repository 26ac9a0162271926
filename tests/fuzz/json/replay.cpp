// Runs every file of a corpus folder through the fuzz target, with each of its prefixes: what was found once stays found.
// With ONBOARDING_CAMPAIGN_SECONDS it then runs what it makes of these files, until that time is over. What made the target
// crash is kept as the file fuzz-found.<target>.<pid> in the folder for temporary files, to be added to the corpus.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

std::string input;        // the one that is run
std::string where_found;  // made before anything can crash

void run() { LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(input.data()), input.size()); }

extern "C" void keep_input(int signal) {
  if (std::FILE* file = std::fopen(where_found.c_str(), "wb")) {
    std::fwrite(input.data(), 1, input.size(), file);
    std::fclose(file);
    std::fprintf(stderr, "the input is %s\n", where_found.c_str());
  }
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

class Mutator {
 public:
  Mutator(std::vector<std::string> corpus, std::uint64_t seed) : corpus_(std::move(corpus)), dice_(seed) {}

  std::string next() {
    std::string made = any();
    for (std::size_t changes = 1 + below(8); changes != 0; --changes) change(made);
    return made;
  }

 private:
  std::size_t below(std::size_t bound) { return bound == 0 ? 0 : dice_() % bound; }
  const std::string& any() { return corpus_[below(corpus_.size())]; }

  void change(std::string& text) {
    constexpr std::size_t longest = 64 * 1024;
    static const std::vector<std::string> odd = {"\"",    "\\",
                                                 "{",     "}",
                                                 "[",     "]",
                                                 ",",     ":",
                                                 "\r\n",  "\r",
                                                 "\n",    std::string(1, '\0'),
                                                 "\xff",  "\xed\xa0\x80",
                                                 "-",     "0",
                                                 "1e999", "18446744073709551616",
                                                 "%",     ";"};
    const std::size_t at = below(text.size() + 1);
    switch (below(6)) {
      case 0:
        if (at < text.size()) text[at] = static_cast<char>(text[at] ^ (1 << below(8)));
        break;
      case 1:
        if (at < text.size()) text[at] = static_cast<char>(dice_());
        break;
      case 2: text.insert(at, odd[below(odd.size())]); break;
      case 3: text.erase(at, 1 + below(16)); break;
      case 4: {  // a piece of another one
        const std::string& other = any();
        const std::size_t from = below(other.size() + 1);
        text.insert(at, other, from, 1 + below(64));
        break;
      }
      default: {  // a piece of itself, several times
        const std::string piece = text.substr(at, 1 + below(8));
        for (std::size_t times = below(64); times != 0 && text.size() < longest; --times) text.insert(at, piece);
      }
    }
    if (text.size() > longest) text.resize(longest);
  }

  std::vector<std::string> corpus_;
  std::mt19937_64 dice_;
};

}  // namespace

int main(int argc, char** argv) {
  where_found = (std::filesystem::temp_directory_path() /
                 ("fuzz-found." + std::filesystem::path(argv[0]).filename().string() + "." + std::to_string(::getpid())))
                    .string();
  for (const int fatal : {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL}) std::signal(fatal, keep_input);
  std::vector<std::string> corpus;
  for (int i = 1; i < argc; ++i) {
    for (const auto& entry : std::filesystem::directory_iterator(argv[i])) {
      std::ifstream in(entry.path(), std::ios::binary);
      const std::string bytes{std::istreambuf_iterator<char>(in), {}};
      const std::size_t step = std::max<std::size_t>(1, bytes.size() / 256);
      for (std::size_t n = 0; n < bytes.size(); n += step) input = bytes.substr(0, n), run();
      input = bytes, run();
      corpus.push_back(bytes);
    }
  }
  std::printf("%zu files\n", corpus.size());
  if (corpus.empty()) return 1;
  if (const char* seconds = std::getenv("ONBOARDING_CAMPAIGN_SECONDS")) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(std::strtoll(seconds, nullptr, 10));
    Mutator mutator(std::move(corpus), std::random_device()());
    std::uint64_t inputs = 0;
    for (; std::chrono::steady_clock::now() < end; ++inputs) input = mutator.next(), run();
    std::printf("%llu inputs more\n", static_cast<unsigned long long>(inputs));
  }
  return 0;
}
