"""The page of `hired serve` in headless Chromium, as people use it. Run by tools/serve-check.

    tools/serve_page.py PROGRAM [FOLDER]      FOLDER: leave screenshots there, to look at

Every check has a server and a page of its own kind; a page that asks any other address, or whose script complains, fails.
"""

import base64
import contextlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time
import traceback
import urllib.request

from playwright.sync_api import sync_playwright

ROOT = pathlib.Path(__file__).resolve().parent.parent
SIGN = "What number is on the yellow sign?"
PICTURE = ROOT / "demo/images/grid-2x2.png"
NARROW = {"width": 375, "height": 667}
WIDE = {"width": 1200, "height": 900}
BROWSERS = ["chromium", "chromium-browser", "google-chrome", "chrome"]


def equal(found, wanted):
    assert found == wanted, f"{found!r} is not {wanted!r}"


@contextlib.contextmanager
def served(program, model, *options):
    command = [program, "serve", "-q", "--device", "cpu", "--port", "0", "--model", str(model), *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        address = process.stdout.readline().removeprefix("listening on ").strip()
        end = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(address + "/ready", timeout=5)
                break
            except OSError:
                assert time.monotonic() < end, "the server does not get ready"
                time.sleep(0.05)
        yield address
    finally:
        process.terminate()
        process.wait(timeout=60)


class Pages:
    """Opens the page, and keeps what it asks for and what it complains of."""

    def __init__(self, browser, address, shots):
        self.browser, self.address, self.shots = browser, address, shots

    @contextlib.contextmanager
    def open(self, viewport=WIDE, allowed=(), **options):
        context = self.browser.new_context(viewport=viewport, **options)
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.asked, page.complaints = [], []
        page.on("request", lambda request: page.asked.append(request))
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.on("console", lambda said: said.type == "error" and page.complaints.append(said.text))
        # From the beginning, so that no dialog opens before the browser knows that it is to hand it over.
        page.on("filechooser", lambda _: None)
        page.goto(self.address)
        until(page, "document.getElementById('model').textContent || !document.getElementById('key-row').hidden")
        yield page
        others = [r.url for r in page.asked if not r.url.startswith((self.address + "/", "data:", "blob:"))]
        equal(others, [])
        equal([said for said in page.complaints if not any(word in said for word in allowed)], [])
        context.close()

    def shot(self, page, name):
        if self.shots:
            page.screenshot(path=str(self.shots / f"{name}.png"), full_page=True)


def until(page, holds):
    """Waits here: the page's policy lets no string be evaluated in it."""
    end = time.monotonic() + 30
    while not page.evaluate(holds):
        assert time.monotonic() < end, f"not within 30 s: {holds}"
        page.wait_for_timeout(20)


def finished(page):
    until(page, "document.getElementById('answer').getAttribute('aria-busy') === 'false' && !document.getElementById('ask').disabled")


def told(page):
    """The table of tokens and times."""
    names, values = page.locator("#facts dt").all_inner_texts(), page.locator("#facts dd").all_inner_texts()
    return dict(zip(names, values))


def body(page):
    """What the page sent last."""
    return [r for r in page.asked if r.method == "POST"][-1].post_data_json


def drawn(page):
    """Width of the picture of kept patches, once it is loaded."""
    until(page, "document.getElementById('kept').naturalWidth > 0")
    assert page.locator("#kept").is_visible()
    return page.evaluate("document.getElementById('kept').naturalWidth")


def a_chosen_picture_is_asked_about(pages):
    with pages.open() as page:
        equal(page.locator("#model").inner_text(), "model")
        pages.shot(page, "empty")
        page.locator("#file").set_input_files(PICTURE)
        page.locator("#picture").wait_for()
        page.locator("#question").fill(SIGN)
        page.locator("#ask").click()
        finished(page)
        equal(page.locator("#answer").inner_text(), "78")
        assert drawn(page) > 300
        facts = told(page)
        equal(facts["Image tokens"], "64 kept of 320")
        assert re.fullmatch(r"\d+ tokens", facts["Prompt"]) and re.fullmatch(r"\d+ tokens", facts["Answer"]), facts
        assert all(re.match(r"\d+\.\d\d s", facts[name]) for name in ("First token", "Vision", "In all")), facts
        pages.shot(page, "answered")
        # Another question begins anew.
        page.locator("#remove").click()
        assert page.locator("#hint").is_visible() and not page.locator("#picture").is_visible()
        page.locator("#question").fill("What is a sign?")
        page.locator("#ask").click()
        finished(page)
        assert "Image tokens" not in told(page) and not page.locator("#figure").is_visible()
        equal(body(page)["messages"][0]["content"], [{"type": "text", "text": "What is a sign?"}])


DROP = """([data, name, type]) => {
  const bytes = Uint8Array.from(atob(data), c => c.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], name, {type}));
  for (const kind of ["dragenter", "dragover", "drop"])
    document.getElementById("drop").dispatchEvent(new DragEvent(kind, {dataTransfer: transfer, bubbles: true, cancelable: true}));
}"""


def a_dropped_picture_is_asked_about(pages):
    with pages.open() as page:
        page.evaluate(DROP, [base64.b64encode(b"words").decode(), "notes.txt", "text/plain"])
        assert "notes.txt" in page.locator("#error").inner_text()
        page.evaluate(DROP, [base64.b64encode(PICTURE.read_bytes()).decode(), "sign.png", "image/png"])
        page.locator("#picture").wait_for()
        assert not page.locator("#error").is_visible()
        page.locator("#question").fill(SIGN)
        page.locator("#ask").click()
        finished(page)
        equal(page.locator("#answer").inner_text(), "78")
        drawn(page)


def the_slider_sets_the_budget(pages):
    with pages.open() as page:
        page.locator("#file").set_input_files(PICTURE)
        page.locator("#picture").wait_for()
        page.locator("#question").fill(SIGN)
        for key, text, kept in [("Home", "2%", 6), ("ArrowRight", "5%", 16), ("End", "full", 320)]:
            page.locator("#budget").press(key)
            equal(page.locator("#budget-text").inner_text(), text)
            equal(page.locator("#budget").get_attribute("aria-valuetext"), text)
            page.locator("#ask").click()
            finished(page)
            equal(body(page)["hired"]["budget"], text)
            equal(told(page)["Image tokens"], f"{kept} kept of 320")


def the_keyboard_is_enough(pages):
    with pages.open() as page:
        focused = lambda: page.evaluate("document.activeElement.id")
        page.keyboard.press("Tab")
        equal(focused(), "file")
        with page.expect_file_chooser() as chooser:
            page.keyboard.press("Enter")
        chooser.value.set_files(PICTURE)
        page.locator("#picture").wait_for()
        order = []
        for _ in range(5):
            page.keyboard.press("Tab")
            order.append(focused())
            if order[-1] == "question":
                page.keyboard.type(SIGN)
            if order[-1] == "budget":
                page.keyboard.press("ArrowLeft")
                pages.shot(page, "focus")
        equal(order, ["remove", "question", "budget", "method", "ask"])
        page.keyboard.press("Enter")
        finished(page)
        equal(page.locator("#answer").inner_text(), "78")
        equal(told(page)["Image tokens"], "32 kept of 320")
        equal(body(page)["hired"]["budget"], "10%")
        # Enter in the question asks too; with Shift it is a new line.
        page.locator("#question").focus()
        page.keyboard.press("Shift+Enter")
        page.keyboard.press("Enter")
        finished(page)
        assert body(page)["messages"][0]["content"][1]["text"].endswith("\n")


def a_narrow_screen_holds_it(pages):
    for scheme in ("light", "dark"):
        with pages.open(NARROW, device_scale_factor=2, is_mobile=True, has_touch=True, color_scheme=scheme) as page:
            wide = "document.documentElement.scrollWidth"
            assert page.evaluate(wide) <= NARROW["width"], page.evaluate(wide)
            page.locator("#file").set_input_files(PICTURE)
            page.locator("#picture").wait_for()
            page.locator("#question").fill(SIGN)
            page.locator("#ask").tap()
            finished(page)
            drawn(page)
            assert page.evaluate(wide) <= NARROW["width"], page.evaluate(wide)
            for name in ("drop", "question", "budget", "method", "ask", "stop", "answer", "kept"):
                box = page.locator(f"#{name}").bounding_box()
                assert box["x"] >= 0 and box["x"] + box["width"] <= NARROW["width"], (name, box)
            for name in ("ask", "stop", "remove", "method"):
                assert page.locator(f"#{name}").bounding_box()["height"] >= 40, f"{name} is too small for a finger"
            pages.shot(page, f"narrow-{scheme}")


def an_answer_grows_and_can_be_stopped(pages):
    with pages.open() as page:
        length = "document.getElementById('answer').textContent.length"
        page.locator("#question").fill("a b c")
        page.locator("#ask").click()
        until(page, f"{length} > 20")
        before = page.evaluate(length)
        until(page, f"{length} > {before + 20}")
        equal(page.locator("#answer").get_attribute("aria-busy"), "true")
        pages.shot(page, "streaming")
        page.locator("#stop").click()
        finished(page)
        equal(page.locator("#error").inner_text(), "Stopped.")
        after = page.evaluate(length)
        page.wait_for_timeout(300)
        equal(page.evaluate(length), after)


def a_key_is_asked_for(pages):
    with pages.open(allowed=("401",)) as page:
        assert page.locator("#key").is_visible()
        page.locator("#question").fill("a b c")
        page.locator("#ask").click()
        finished(page)
        assert "key" in page.locator("#error").inner_text()
        pages.shot(page, "key")
        page.locator("#key").fill("a-key")
        page.locator("#ask").click()
        until(page, "document.getElementById('answer').textContent.length > 20")
        page.locator("#stop").click()
        finished(page)


OF_DEMO = [
    a_chosen_picture_is_asked_about, a_dropped_picture_is_asked_about, the_slider_sets_the_budget, the_keyboard_is_enough,
    a_narrow_screen_holds_it,
]


def main():
    program, shots = sys.argv[1], pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else None
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if not path:
        print(f"skipped: the page, for there is no Chromium here (CHROMIUM, {', '.join(BROWSERS)})")
        return
    if shots:
        shots.mkdir(parents=True, exist_ok=True)
    endless = ROOT / "target/tests/endless"
    if not endless.exists():
        endless.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run([program, "synth", "--preset", "tiny", "--out", str(endless)], check=True)
    passed, failed = 0, 0
    with sync_playwright() as playwright:
        # Whoever is root in a container has no other way than without the sandbox.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        for checks, model, options in (
            (OF_DEMO, ROOT / "demo/model", []),
            ([an_answer_grows_and_can_be_stopped], endless, []),
            ([a_key_is_asked_for], endless, ["--api-key", "a-key"]),
        ):
            with served(program, model, *options) as address:
                for check in checks:
                    try:
                        check(Pages(browser, address, shots))
                        passed += 1
                        print(f"test page::{check.__name__} ... ok")
                    except Exception:
                        failed += 1
                        print(f"test page::{check.__name__} ... FAILED")
                        traceback.print_exc(file=sys.stdout)
        browser.close()
    print(f"test result: {'ok' if not failed else 'FAILED'}. {passed} passed; {failed} failed; 0 ignored")
    sys.exit(failed > 0)


main()
