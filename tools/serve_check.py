"""`hired serve` driven by OpenAI's official client. Run by tools/serve-check.

Every check is a function of a client's address. They run against the server, and then against one that answers
wrongly, where each must fail: a check that cannot fail shows nothing.
"""

import asyncio
import base64
import http.server
import json
import pathlib
import subprocess
import sys
import threading
import time
import traceback
import urllib.request

import openai
from prometheus_client.parser import text_string_to_metric_families

ROOT = pathlib.Path(__file__).resolve().parent.parent
SIGN = "What number is on the yellow sign?"
KEY = "a-key"


def client(address, **options):
    options = {"api_key": KEY, "max_retries": 0, "timeout": 60, **options}
    return openai.OpenAI(base_url=f"{address}/v1", **options)


def about(words, picture="grid-2x2.png"):
    data = base64.b64encode((ROOT / "demo/images" / picture).read_bytes()).decode()
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
    return [{"role": "user", "content": [image, {"type": "text", "text": words}]}]


def metrics(address):
    with urllib.request.urlopen(f"{address}/metrics", timeout=30) as response:
        text = response.read().decode()
    samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            samples[sample.name, tuple(sample.labels.values())] = sample.value
    return samples


def equal(found, wanted):
    assert found == wanted, f"{found!r} is not {wanted!r}"


def fails(kind, ask):
    try:
        ask()
    except openai.APIError as error:
        assert type(error) is kind, f"{type(error)}: {error}"
        return error
    raise AssertionError(f"no {kind.__name__}")


def whole_answer(address):
    reply = client(address).chat.completions.create(model="model", messages=about(SIGN), max_tokens=8)
    equal(reply.choices[0].message.content, "78")
    equal((reply.choices[0].finish_reason, reply.object), ("stop", "chat.completion"))
    usage = reply.usage
    equal(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens)
    own = reply.model_extra["hired"]
    equal(own["visual"]["kept"], 64)
    equal(usage.prompt_tokens_details.image_tokens, 64)


def extra_body(address):
    create = client(address).chat.completions.create
    for extra in ({"budget": "10%"}, {"hired": {"budget": "10%"}}):
        reply = create(model="model", messages=about(SIGN), max_tokens=2, extra_body=extra)
        equal(reply.model_extra["hired"]["visual"]["kept"], 32)
    reply = create(model="model@full", messages=about(SIGN), max_tokens=2)
    equal(reply.model_extra["hired"]["visual"]["kept"], 320)


def two_images(address):
    first, second = about("and", "grid-2x2.png")[0]["content"], about(SIGN, "grid-1x2.png")[0]["content"]
    create = client(address).chat.completions.create
    reply = create(model="model", messages=[{"role": "user", "content": first + second}], max_tokens=4)
    visuals = reply.model_extra["hired"]["visuals"]
    equal(len(visuals), 2)
    equal(reply.usage.prompt_tokens_details.image_tokens, sum(visual["kept"] for visual in visuals))
    assert reply.choices[0].message.content


def streamed_answer(address):
    create = client(address).chat.completions.create
    chunks = list(create(model="model", messages=about(SIGN), max_tokens=8, stream=True))
    equal("".join(chunk.choices[0].delta.content or "" for chunk in chunks), "78")
    equal(chunks[0].choices[0].delta.role, "assistant")
    equal(chunks[-1].choices[0].finish_reason, "stop")
    assert all(chunk.usage is None for chunk in chunks)
    options = {"include_usage": True}
    chunks = list(create(model="model", messages=about(SIGN), max_tokens=8, stream=True, stream_options=options))
    equal(chunks[-1].choices, [])
    equal(chunks[-1].usage.completion_tokens, 3)


def text_completion(address):
    reply = client(address).completions.create(model="model", prompt="What?", max_tokens=4)
    equal(reply.object, "text_completion")
    assert reply.choices[0].text is not None and reply.usage.completion_tokens <= 4


def model_list(address):
    equal([model.id for model in client(address).models.list()], ["model"])
    equal(client(address).models.retrieve("model").owned_by, "hired")


def errors(address):
    create = client(address).chat.completions.create
    user = [{"role": "user", "content": "why"}]
    error = fails(openai.BadRequestError, lambda: create(model="model", messages=user, n=2))
    equal((error.param, error.type), ("n", "invalid_request_error"))
    error = fails(openai.BadRequestError, lambda: create(model="model", messages=[], stream=True))
    equal(error.param, "messages")
    error = fails(openai.NotFoundError, lambda: create(model="gpt-4o", messages=user))
    equal(error.code, "model_not_found")
    other = client(address, api_key="another")
    error = fails(openai.AuthenticationError, lambda: other.models.list())
    equal(error.code, "invalid_api_key")
    broken = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}]}]
    error = fails(openai.BadRequestError, lambda: create(model="model", messages=broken))
    equal(error.code, "invalid_image")
    large = [{"role": "user", "content": "x" * (2 << 20)}]
    error = fails(openai.APIStatusError, lambda: create(model="model", messages=large))
    equal((error.status_code, error.code), (413, "request_too_large"))


def several_at_once(address):
    async def all_of_them():
        async with openai.AsyncOpenAI(base_url=f"{address}/v1", api_key=KEY, max_retries=0, timeout=60) as ask:
            asked = [about(SIGN, picture) for picture in ("grid-2x2.png", "grid-1x2.png", "grid-3x1.png") * 3]
            replies = [ask.chat.completions.create(model="model", messages=each, max_tokens=8) for each in asked]
            return [reply.choices[0].message.content for reply in await asyncio.gather(*replies)]

    together = asyncio.run(all_of_them())
    create = client(address).chat.completions.create
    alone = [
        create(model="model", messages=about(SIGN, picture), max_tokens=8).choices[0].message.content
        for picture in ("grid-2x2.png", "grid-1x2.png", "grid-3x1.png")
    ]
    equal(together, alone * 3)
    equal(alone[0], "78")


def metrics_text(address):
    before = metrics(address)
    client(address).chat.completions.create(model="model", messages=about(SIGN), max_tokens=8)
    after = metrics(address)
    name = "hired_request_success_total", ("stop",)
    equal(after[name] - before.get(name, 0), 1)
    assert after["hired_time_to_first_token_seconds_bucket", ("+Inf",)] >= 1
    assert ("vllm:num_requests_waiting", ()) in after


def page(address):
    with urllib.request.urlopen(address + "/", timeout=30) as response:
        assert b'id="question"' in response.read()
        assert "sha256-" in response.headers["Content-Security-Policy"]


# On the model whose answers do not end by themselves.


def settled(address):
    found = metrics(address)
    return found["hired_requests_running", ()] + found["hired_requests_waiting", ()] == 0


def within(seconds, holds):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.02)


def closed_stream(address):
    stream = client(address).chat.completions.create(
        model="endless", messages=[{"role": "user", "content": "a b c"}], max_tokens=4000, stream=True
    )
    for _, chunk in zip(range(5), stream):
        assert chunk.choices[0].finish_reason is None
    assert not settled(address)
    stream.close()
    within(10, lambda: settled(address))


def time_out(address):
    impatient = client(address, timeout=0.5)
    user = [{"role": "user", "content": "a b c"}]
    ask = lambda: impatient.chat.completions.create(model="endless", messages=user, max_tokens=4000)
    fails(openai.APITimeoutError, ask)
    within(10, lambda: settled(address))
    reply = client(address).chat.completions.create(model="endless", messages=user, max_tokens=3)
    equal((reply.usage.completion_tokens, reply.choices[0].finish_reason), (3, "length"))


OF_DEMO = [
    whole_answer, extra_body, two_images, streamed_answer, text_completion, model_list, errors, several_at_once, metrics_text, page,
]
OF_ENDLESS = [closed_stream, time_out]


class Wrong(http.server.BaseHTTPRequestHandler):
    """Answers everything with what a careless server might."""

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.answer("text/plain", b"# TYPE hired_requests_running gauge\nhired_requests_running 0\nhired_requests_waiting 0\n")

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if asked.get("stream"):
            # Uninvited usage, and no end.
            self.answer("text/event-stream", b'data: {"choices": [], "usage": {"completion_tokens": 1}}\n\n')
        else:
            choice = {"index": 0, "message": {"role": "assistant", "content": "77"}, "finish_reason": "stop"}
            self.answer("application/json", json.dumps({"choices": [choice]}).encode())

    def answer(self, kind, body):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Served:
    """A server while a block runs."""

    def __init__(self, program, model, *options):
        self.command = [program, "serve", "--device", "cpu", "--port", "0", "--model", str(model), *options]

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        address = self.process.stdout.readline().removeprefix("listening on ").strip()
        within(60, lambda: self.ready(address))
        return address

    @staticmethod
    def ready(address):
        try:
            return urllib.request.urlopen(address + "/ready", timeout=5).status == 200
        except OSError:
            return False

    def __exit__(self, *_):
        self.process.terminate()
        equal(self.process.wait(timeout=60), 0)


def main():
    program = sys.argv[1]
    passed, failed = 0, 0

    def run(check, address):
        nonlocal passed, failed
        try:
            check(address)
            passed += 1
            print(f"test {check.__name__} ... ok")
        except Exception:
            failed += 1
            print(f"test {check.__name__} ... FAILED")
            traceback.print_exc(file=sys.stdout)

    with Served(program, ROOT / "demo/model", "--api-key", KEY, "--max-body", "1MiB") as address:
        for check in OF_DEMO:
            run(check, address)
    endless = ROOT / "target/tests/endless"
    if not endless.exists():
        endless.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run([program, "synth", "--preset", "tiny", "--out", str(endless)], check=True)
    with Served(program, endless, "--api-key", KEY, "--served-name", "endless") as address:
        for check in OF_ENDLESS:
            run(check, address)

    wrong = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Wrong)
    threading.Thread(target=wrong.serve_forever, daemon=True).start()
    for check in OF_DEMO + OF_ENDLESS:
        try:
            check(f"http://127.0.0.1:{wrong.server_port}")
        except Exception:
            passed += 1
            print(f"test {check.__name__} fails on wrong answers ... ok")
        else:
            failed += 1
            print(f"test {check.__name__} fails on wrong answers ... FAILED")
    wrong.shutdown()
    print(f"test result: {'ok' if not failed else 'FAILED'}. {passed} passed; {failed} failed; 0 ignored")
    sys.exit(failed > 0)


main()
