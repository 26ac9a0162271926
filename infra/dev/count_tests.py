"""Counts test cases, not programs, and says so in one closing line.

Reads ctest's junit.xml and the result file that each GoogleTest or Python program wrote (GTEST_OUTPUT=json:results/).
A program that ctest calls failed without a failed case of its own (crash, time-out, a leak at exit) is one failure.
"""
import json
import pathlib
import sys
import xml.etree.ElementTree as ElementTree


def count(folder: pathlib.Path) -> tuple[int, int, int, list[str]]:
    passed = failed = skipped = 0
    names: list[str] = []
    junit = folder / "junit.xml"
    suites = ElementTree.parse(junit).getroot().iter("testcase") if junit.exists() else []
    for program in suites:
        name, status = program.get("name", "?"), program.get("status", "")
        result = folder / "results" / f"{name}.json"
        if not result.exists():
            if status == "run":
                passed += 1
            elif status == "disabled":
                skipped += 1
            else:
                failed += 1
                names.append(f"{name} (the whole program)")
            continue
        before = failed
        for suite in json.loads(result.read_text())["testsuites"]:
            for case in suite["testsuite"]:
                if case.get("failures"):
                    failed += 1
                    names.append(f"{name}: {case.get('classname', suite['name'])}.{case['name']}")
                elif case.get("result") == "SKIPPED" or case.get("status") == "NOTRUN":
                    skipped += 1
                else:
                    passed += 1
        if status == "fail" and failed == before:
            failed += 1
            names.append(f"{name} (failed outside its cases)")
    campaign = folder / "campaign.json"
    if campaign.exists():
        for name, succeeded in json.loads(campaign.read_text()).items():
            if succeeded:
                passed += 1
            else:
                failed += 1
                names.append(f"{name} (campaign)")
    return passed, failed, skipped, names


def main() -> int:
    passed, failed, skipped, names = count(pathlib.Path(sys.argv[1]))
    for name in names:
        print(f"FAILED  {name}")
    if passed + failed == 0:
        print("no test ran")
        failed = 1
    print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
