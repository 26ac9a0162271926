"""Runs unittest files and reports their cases the way a GoogleTest program does.

    tests/run_unittests.py NAME FILE… [-k PATTERN]

Prints each case as it starts and ends. Where GTEST_OUTPUT=json:FOLDER/ is set, writes FOLDER/NAME.json, from which
infra/dev/count_tests.py counts cases.
"""
import importlib.util
import json
import os
import pathlib
import sys
import time
import unittest


class Result(unittest.TestResult):
    def __init__(self) -> None:
        super().__init__()
        self.cases: list[dict] = []
        self._began = 0.0

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        self._began = time.monotonic()
        print(f"[ RUN      ] {test.id()}", flush=True)

    def _end(self, test, outcome: str, text: str = "") -> None:
        seconds = time.monotonic() - self._began
        words = {"ok": "      OK", "skipped": " SKIPPED", "failed": "  FAILED"}[outcome]
        if text:
            print(text, flush=True)
        print(f"[ {words} ] {test.id()} ({seconds * 1000:.0f} ms)", flush=True)
        case = {"name": test.id().rpartition(".")[2], "classname": test.id().rpartition(".")[0],
                "status": "RUN", "result": "SKIPPED" if outcome == "skipped" else "COMPLETED", "time": f"{seconds:.3f}s"}
        if outcome == "failed":
            case["failures"] = [{"failure": text, "type": ""}]
        self.cases.append(case)

    def addSuccess(self, test) -> None:
        super().addSuccess(test)
        self._end(test, "ok")

    def addError(self, test, err) -> None:
        super().addError(test, err)
        self._end(test, "failed", self._exc_info_to_string(err, test))

    def addFailure(self, test, err) -> None:
        super().addFailure(test, err)
        self._end(test, "failed", self._exc_info_to_string(err, test))

    def addSkip(self, test, reason) -> None:
        super().addSkip(test, reason)
        self._end(test, "skipped", reason)

    def addSubTest(self, test, subtest, err) -> None:
        super().addSubTest(test, subtest, err)
        if err is not None:
            self._end(subtest, "failed", self._exc_info_to_string(err, test))


def main() -> int:
    arguments = sys.argv[1:]
    pattern = None
    if "-k" in arguments:
        at = arguments.index("-k")
        pattern = arguments[at + 1]
        del arguments[at:at + 2]
    name, files = arguments[0], [pathlib.Path(f) for f in arguments[1:]]
    sys.dont_write_bytecode = True
    loader, suite = unittest.TestLoader(), unittest.TestSuite()
    if pattern:
        loader.testNamePatterns = [f"*{pattern}*"]
    sys.path.insert(0, str(pathlib.Path(__file__).parent))
    for file in files:
        spec = importlib.util.spec_from_file_location(file.stem, file)
        module = importlib.util.module_from_spec(spec)
        sys.modules[file.stem] = module
        spec.loader.exec_module(module)
        suite.addTests(loader.loadTestsFromModule(module))
    result = Result()
    suite.run(result)
    output = os.environ.get("GTEST_OUTPUT", "")
    if output.startswith("json:"):
        report = {"testsuites": [{"name": name, "testsuite": result.cases}]}
        (pathlib.Path(output[5:]) / f"{name}.json").write_text(json.dumps(report))
    failed = sum("failures" in case for case in result.cases)
    print(f"{len(result.cases) - failed} of {len(result.cases)} cases passed")
    return 1 if failed or not result.cases else 0


if __name__ == "__main__":
    sys.exit(main())
