"""Runs the tests labelled `campaign` one after the other, the given minutes shared evenly among them.

Each is told how long by ONBOARDING_CAMPAIGN_SECONDS; one that honours it ends by itself, and is given half as long again before it is killed.
"""
import json
import os
import pathlib
import subprocess
import sys


def main() -> int:
    build, minutes, report = sys.argv[1], int(sys.argv[2]), pathlib.Path(sys.argv[3])
    listing = subprocess.run(["ctest", "--test-dir", build, "-L", "campaign", "--show-only=json-v1"], check=True, capture_output=True)
    tests = json.loads(listing.stdout)["tests"]
    seconds = minutes * 60 // max(1, len(tests))
    outcome: dict[str, bool] = {}
    environment = os.environ | {"ONBOARDING_CAMPAIGN_SECONDS": str(seconds)}
    environment.pop("GTEST_OUTPUT", None)  # its cases were counted in the ordinary run
    for test in tests:
        folder = next((p["value"] for p in test["properties"] if p["name"] == "WORKING_DIRECTORY"), ".")
        print(f"campaign: {test['name']} for {seconds} s", flush=True)
        try:
            done = subprocess.run(test["command"], cwd=folder, env=environment, timeout=seconds * 1.5 + 120)
            outcome[test["name"]] = done.returncode == 0
        except subprocess.TimeoutExpired:
            outcome[test["name"]] = False
    report.write_text(json.dumps(outcome))
    return 0


if __name__ == "__main__":
    sys.exit(main())
