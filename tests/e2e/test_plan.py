"""`onboardctl plan` against real onboardings: what they take is what it says, and it says what each figure rests on."""
import importlib.machinery
import importlib.util
import json
import subprocess
import sys
import unittest

from harness import BUILD, ROOT

sys.path.insert(0, str(ROOT / "tests/integration/model"))
from strict_client import StrictServer  # noqa: E402


def bench():
    loader = importlib.machinery.SourceFileLoader("bench_plan", str(ROOT / "tests/bench/plan"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("bench_plan", loader))
    loader.exec_module(module)
    return module


def plan(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([str(BUILD / "onboardctl"), "plan", *arguments], text=True, capture_output=True, timeout=30)


class Plan(unittest.TestCase):
    def test_real_onboardings_take_what_the_plan_says(self):
        measuring, strict = bench(), StrictServer("--key", "sk-test")
        try:
            small, large = (measuring.measure(strict, n, "openai") for n in (10, 60))
        finally:
            strict.close()
        planned = measuring.planned(50)
        # A table of 50 people is a few dozen pages, its indexes split when they please: only its size is meant.
        for name, within in {"turns": 0.01, "events": 0.05, "openai.calls": 0.01, "openai.input_tokens": 0.05, "openai.output_tokens": 0.05, "bytes.events.db": 0.25,
                             "bytes.conversation_messages": 0.6}.items():
            took = large[name] - small[name]
            self.assertLess(abs(planned[name] - took), within * took, f"{name}: {took} measured, {planned[name]} planned")

    def test_each_figure_names_what_it_rests_on_and_the_bottleneck_is_found(self):
        said = json.loads(plan("--users", "10000", "--over", "1d", "--tier", "1", "--json").stdout)
        self.assertTrue(all(figure["rests_on"] for figure in said["figures"]))
        self.assertTrue(all(entry["from"] for entry in said["inputs"].values()))
        self.assertIn("The bottleneck is the provider's tokens", said["verdict"])
        figures = {figure["name"]: figure["value"] for figure in said["figures"]}
        self.assertAlmostEqual(figures["sessions a minute"], 10000 / 1440)
        self.assertEqual((figures["servers"], figures["brokers"]), (1, 0))
        wide = json.loads(plan("--users", "100000000", "--over", "1d", "--requests-per-minute", "1e9", "--tokens-per-minute", "1e12", "--json").stdout)
        figures = {figure["name"]: figure["value"] for figure in wide["figures"]}
        self.assertGreater(figures["servers"], 3)
        self.assertGreaterEqual(figures["brokers"], 3)
        self.assertIn("suffice", wide["verdict"])
        self.assertIn("sessions a minute", plan("--users", "10000", "--over", "1d").stdout)

    def test_wrong_uses_say_what_to_do(self):
        for arguments, says in ((("--users", "10", "--over", "soon"), "--over takes a span"), (("--users", "10", "--tier", "4"), "--requests-per-minute"),
                                (("--users", "0"), "--users"), (("--users", "10", "--provider", "nobody"), "--provider takes"), ((), "--users is required")):
            done = plan(*arguments)
            self.assertEqual(done.returncode, 2, arguments)
            self.assertIn(says, done.stderr + done.stdout)


if __name__ == "__main__":
    unittest.main()
