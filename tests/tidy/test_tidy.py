"""The frame, as a test: who may include whom, what stands where, what no committed file may hold."""
import pathlib
import re
import subprocess
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOP_LEVEL = {"CMakeLists.txt", "actors", "events", "http", "projections", "migrations", "infra", "tests", "README.md"}
MODULES = ("events", "actors", "projections", "http", "infra")
INCLUDE = re.compile(r'^\s*#\s*include\s+([<"])([^>"]+)[>"]', re.MULTILINE)

# folder → what its files may include of ours, as path prefixes. The longest matching folder decides.
MAY_INCLUDE = {
    "events/domain": ("events/domain/",),
    "events": ("events/",),
    "actors": ("events/", "actors/"),
    "projections": ("events/", "projections/"),
    # To http, actors and projections are their ports.
    "http": ("events/", "http/", "actors/flows.hpp", "actors/gateway.hpp", "actors/model/control.hpp", "projections/queries.hpp", "projections/control.hpp"),
    # PostgreSQL adapters of other folders' ports lie here; each may include its port.
    "projections/postgres": ("events/", "projections/", "actors/model/shares/"),
    "infra/app": ("events/", "actors/", "projections/", "http/", "infra/app/"),
}
# a library → the folders that know it
KNOWN_BY = {
    "pqxx": ("projections/postgres",),
    "libpq": ("projections/postgres",),
    "caf": ("actors",),
    "pistache": ("http",),
    "sqlite3.h": ("events/log/sqlite", "events/privacy"),
    "curl": ("actors/model/providers", "http", "infra/app/ctl"),
    "toml++": ("infra/app/config",),
    "CLI": ("infra/app",),
    "sodium.h": ("events",),
    "librdkafka": ("events/log/kafka",),
    "phonenumbers": ("events/domain",),
}


def tracked() -> list[pathlib.Path]:
    """Committed and about-to-be-committed files; in a tree without git, every file that git would not ignore by name."""
    listing = subprocess.run(["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard"], capture_output=True, text=True)
    if listing.returncode == 0:
        return [p for line in listing.stdout.splitlines() if (p := ROOT / line).is_file()]
    skipped = {"build", "build-asan", ".git", ".data"}
    return [p for p in ROOT.rglob("*") if p.is_file() and not skipped & set(p.relative_to(ROOT).parts)]


FILES = tracked()
TEXTS = {p.relative_to(ROOT).as_posix(): p.read_text(encoding="utf-8", errors="replace") for p in FILES if p.stat().st_size < 2_000_000}
SOURCES = {name: text for name, text in TEXTS.items() if name.endswith((".hpp", ".cpp"))}
PRODUCT = {name: text for name, text in SOURCES.items() if name.startswith(MODULES)}


def without_comments(text: str) -> str:
    return re.sub(r"//[^\n]*|/\*.*?\*/", "", text, flags=re.DOTALL)


def rule_for(name: str) -> tuple[str, ...] | None:
    folders = [f for f in MAY_INCLUDE if name.startswith(f + "/")]
    return MAY_INCLUDE[max(folders, key=len)] if folders else None


class Frame(unittest.TestCase):
    maxDiff = None

    def test_the_top_level_holds_what_was_given_and_nothing_else(self):
        entries = {pathlib.PurePosixPath(name).parts[0] for name in TEXTS}
        self.assertEqual({e for e in entries if not e.startswith(".")}, TOP_LEVEL)

    def test_includes_keep_the_edges_of_the_design(self):
        wrong = []
        for name, text in PRODUCT.items():
            allowed = rule_for(name)
            for quote, target in INCLUDE.findall(text):
                ours = target.startswith(tuple(m + "/" for m in MODULES))
                if not ours or target.startswith(allowed):
                    continue
                if name.startswith("projections/postgres/") and target.startswith(("actors/", "http/")) and target.endswith(".hpp"):
                    continue  # a PostgreSQL adapter may include the one port header it implements
                wrong.append(f"{name} includes {target}")
        self.assertEqual(wrong, [])

    def test_the_domain_includes_only_itself_the_standard_library_and_value_libraries(self):
        # expected, ICU, libphonenumber and idn2 are tables and rules: no I/O, no clock (infra/docs/adr).
        values = ("events/domain/", "tl/", "unicode/", "phonenumbers/", "idn2.h")
        wrong = [f"{name} includes {target}" for name, text in PRODUCT.items() if name.startswith("events/domain/")
                 for _, target in INCLUDE.findall(text) if ("/" in target or "." in target) and not target.startswith(values)]
        self.assertEqual(wrong, [])

    def test_each_outside_library_is_known_by_its_folder_only(self):
        wrong = []
        for name, text in PRODUCT.items():
            for quote, target in INCLUDE.findall(text):
                if target.startswith(tuple(m + "/" for m in MODULES)):
                    continue
                for library, folders in KNOWN_BY.items():
                    if (target == library or target.startswith(library + "/")) and not name.startswith(tuple(f + "/" for f in folders)):
                        wrong.append(f"{name} includes {target}")
        self.assertEqual(wrong, [])

    def test_includes_are_written_from_the_root(self):
        wrong = [f"{name} includes \"{target}\"" for name, text in SOURCES.items() for quote, target in INCLUDE.findall(text)
                 if quote == '"' and not (ROOT / target).is_file()]
        self.assertEqual(wrong, [])

    def test_headers_are_guarded_once(self):
        self.assertEqual([name for name, text in SOURCES.items() if name.endswith(".hpp") and "#pragma once" not in text], [])

    def test_the_wall_clock_is_read_only_by_the_clock(self):
        clock = re.compile(r"system_clock::now|\bgettimeofday\b|\bstd::time\(|[^_]\btime\(nullptr\)")
        wrong = [name for name, text in PRODUCT.items() if name != "events/clock.cpp" and clock.search(without_comments(text))]
        self.assertEqual(wrong, [])

    def test_the_domain_is_pure(self):
        impure = re.compile(r"steady_clock|std::thread|std::mutex|std::ofstream|std::ifstream|std::cout|std::cerr|random_device|getenv|spdlog")
        wrong = [f"{name}: {impure.search(without_comments(text)).group()}" for name, text in PRODUCT.items()
                 if name.startswith("events/domain/") and impure.search(without_comments(text))]
        self.assertEqual(wrong, [])


class Folders(unittest.TestCase):
    def test_each_folder_of_code_has_a_readme(self):
        folders = {str(pathlib.PurePosixPath(name).parent) for name in PRODUCT} | {"infra", "infra/dev", "infra/docs", "migrations", "tests"}
        # Parts of a module that its own README describes.
        described_above = {"http/routes", "http/web", "actors/model/policy", "actors/model/providers", "events/log/memory", "events/log/sqlite", "events/log/kafka/rules",
                           "infra/app/config", "infra/app/server", "infra/app/ctl"}
        missing = sorted(f for f in folders - described_above if not (ROOT / f / "README.md").is_file())
        self.assertEqual(missing, [])

    def test_the_readme_of_the_tests_names_each_folder_of_tests(self):
        folders = {pathlib.PurePosixPath(name).parts[1] for name in TEXTS if name.startswith("tests/") and name.count("/") > 1}
        said = (ROOT / "tests/README.md").read_text()
        self.assertEqual(sorted(f for f in folders if f"`{f}/`" not in said), [])

    def test_links_between_documents_lead_somewhere(self):
        broken = []
        for name, text in TEXTS.items():
            if not name.endswith(".md"):
                continue
            for target in re.findall(r"\]\(([^)#\s]+)", text):
                if "://" not in target and not target.startswith("mailto:") and not (ROOT / name).parent.joinpath(target).exists():
                    broken.append(f"{name} → {target}")
        self.assertEqual(broken, [])

    def test_every_decision_record_stands_in_the_index(self):
        folder = ROOT / "infra/docs/adr"
        index = (folder / "README.md").read_text()
        self.assertEqual([p.name for p in sorted(folder.glob("[0-9]*.md")) if p.name not in index], [])


class Words(unittest.TestCase):
    def lines(self, pattern: str, names=lambda name: True) -> list[str]:
        expression = re.compile(pattern)
        this = pathlib.Path(__file__).relative_to(ROOT).as_posix()
        return [f"{name}:{n}: {line.strip()[:100]}" for name, text in TEXTS.items() if name != this and names(name)
                for n, line in enumerate(text.splitlines(), 1) if expression.search(line)]

    def test_nothing_is_left_for_later(self):
        self.assertEqual(self.lines(r"\b(TODO|FIXME|XXX|HACK)\b", lambda n: "JSONTestSuite" not in n), [])

    def test_no_path_of_a_machine(self):
        self.assertEqual(self.lines(r"(?<![\w.])/(home/\w+|work/|root/\w|Users/\w)", lambda n: not n.startswith("tests/fuzz/") and not n.endswith(".md")), [])

    def test_no_secret(self):
        self.assertEqual(self.lines(r"sk-[A-Za-z0-9]{20,}|AKIA[0-9A-Z]{16}|-----BEGIN [A-Z ]*PRIVATE KEY"), [])

    def test_scripts_are_sound(self):
        wrong = []
        for name, text in TEXTS.items():
            if text.startswith("#!/usr/bin/env bash"):
                done = subprocess.run(["bash", "-n", str(ROOT / name)], capture_output=True, text=True)
                if done.returncode != 0 or "set -" not in text:
                    wrong.append(f"{name}: {done.stderr.strip() or 'no set -euo pipefail'}")
        self.assertEqual(wrong, [])

    def test_the_sources_are_formatted(self):
        done = subprocess.run(["clang-format", "--dry-run", "-Werror", *sorted(SOURCES)], cwd=ROOT, capture_output=True, text=True)
        files = sorted({line.split(":")[0] for line in done.stderr.splitlines() if "error:" in line})
        self.assertEqual((done.returncode, files), (0, []), "clang-format -i puts them right")


if __name__ == "__main__":
    unittest.main()
