"""From Enter to the first token in the DOM: our chat page against Streamlit's own way, in headless Chromium.

    python -m benchmarks.first_token [--rounds 10] [--host paced|runtime|both] [--model TAG of the starter family]

Both pages talk to the same host, both servers and pages are warm, every question is asked in a new chat (so the prompt
stays equally short) and is new (so nothing comes out of a cache). The stock page is benchmarks/pages/stock_chat.py.
With the host without cost the figures are the pages' own; with the runtime the prompt's evaluation is in them.
"""

from __future__ import annotations

import argparse
import itertools
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Browser, Page

from benchmarks import subjects
from benchmarks.browser import COMPOSER, RESTING, ask, chromium, open_page
from benchmarks.harness import Figures, Metric, Report, interleave
from benchmarks.paced_host import model_name
from benchmarks.subjects import Subject

TOKENS, RATE = 500, 200
NUMBERS = itertools.count(1)
STOCK = "st.write_stream"
STOCK_ANSWER = '[data-testid="stChatMessage"]:has([data-testid="stChatMessageAvatarAssistant"]) .stMarkdown'
OUR_ANSWER = '[class*="st-key-answer-"] :is([data-testid="stMarkdown"], [data-testid="stCode"])'
OURS = "Loupe"
METRICS = (
    Metric("first", "Enter to first token in the DOM"),
    Metric("whole", "Enter to last token in the DOM"),
    Metric("kilobytes", "websocket, server to page", "kB", 1),
    Metric("updates", "changes of the text", "n", 0),
    Metric("cpu", "server's CPU an answer"),
)


@dataclass(frozen=True, slots=True)
class Plan:
    """One table: the model that both pages use, and how long its answers are."""

    caption: str
    model: str
    tokens: int
    rounds: int
    last: str | None = None  # the text of the last token, where it is known
    greedy: bool = False  # the model is real: temperature 0, and `tokens` is a limit


class Chat:
    """One open page; every round is a new chat in it."""

    def __init__(self, server: Subject, browser: Browser, answer: str, plan: Plan) -> None:
        self._server, self._answer, self._plan = server, answer, plan
        self._page = open_page(browser, server.url, COMPOSER)

    def measure(self) -> Figures:
        self._page.goto(self._server.url)
        self._page.locator(COMPOSER).wait_for()
        self.prepare(self._page)
        self._page.locator(RESTING).wait_for()
        self._page.wait_for_load_state("networkidle")
        cpu = self._server.cpu()
        question = f"Question {next(NUMBERS)}: what is the capital of France?"
        found = ask(self._page, question, self._answer, self._plan.last)
        cpu = self._server.cpu() - cpu
        return {**found, "kilobytes": found["bytes"] / 1e3, "cpu": cpu * 1e3}

    def prepare(self, page: Page) -> None:
        """Make the new chat ready to ask in."""


class OurChat(Chat):
    def prepare(self, page: Page) -> None:
        if not self._plan.greedy:
            return
        page.locator(".st-key-parameters button").first.click()
        for label, value in (("Temperature", "0"), ("Longest answer", str(self._plan.tokens))):
            field = page.get_by_label(label, exact=True).first
            field.fill(value)
            field.press("Tab")
            page.locator(RESTING).wait_for()
        page.keyboard.press("Escape")
        page.locator(".st-key-parameter-grid").wait_for(state="hidden")


def compare(report: Report, browser: Browser, host: Subject, folder: Path, plan: Plan) -> None:
    words = {"STOCK_CHAT_HOST": host.url, "STOCK_CHAT_MODEL": plan.model, "STOCK_CHAT_TOKENS": str(plan.tokens)}
    with (
        subjects.streamlit_page("stock_chat.py", folder / "stock.log", **words) as stock,
        subjects.loupe(folder / plan.model.replace(":", "-"), OLLAMA_HOST=host.url) as loupe,
    ):
        stock.wait("/")
        loupe.wait("/readyz")
        sides = {
            STOCK: Chat(stock, browser, STOCK_ANSWER, plan).measure,
            OURS: OurChat(loupe, browser, OUR_ANSWER, plan).measure,
        }
        samples = interleave(sides, rounds=plan.rounds, warm_up=2)
        report.compare(plan.caption, [m for m in METRICS if m.name != "whole" or plan.last], samples, baseline=STOCK)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.first_token", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--host", choices=("both", "paced", "runtime"), default="both")
    parser.add_argument("--model", default="q4_0", help="variant of the starter family for the rows with the runtime")
    options = parser.parse_args()
    report = Report("first_token", "Enter to first token")
    with subjects.scratch() as folder, chromium() as browser:
        if options.host != "runtime":
            model = model_name(TOKENS, RATE)
            plan = Plan(f"{TOKENS} tokens at {RATE} a second", model, TOKENS, options.rounds, f"t{TOKENS - 1}")
            with subjects.paced_host(folder, model) as host:
                compare(report, browser, host, folder, plan)
        if options.host != "paced":
            model = f"smollm2:135m-instruct-{options.model}"
            plan = Plan(f"Embedded runtime, {options.model}", model, 64, options.rounds, greedy=True)
            with subjects.runtime(folder, (options.model,)) as host:
                compare(report, browser, host, folder, plan)
    report.finish()


if __name__ == "__main__":
    main()
