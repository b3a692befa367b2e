//! `hired serve` on a GPU of which one call fails: the request is told so with 500, and the server answers the next.
#![cfg(all(feature = "serve", feature = "cuda", target_os = "linux", target_arch = "x86_64"))]

#[path = "serve/client.rs"]
mod client;
mod common;
#[path = "support/emulator.rs"]
mod emulator;

use client::{Reply, Request, data_url};
use common::golden::fixture;
use emulator::{Build, Emulator};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

struct Server {
    child: Child,
    address: String,
    folder: tempfile::TempDir,
}

impl Server {
    /// On the emulator, where that fails; ready for requests.
    fn start(fails: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("fail");
        let environment = [
            ("HIRED_EMULATOR_SM", "61"),
            ("HIRED_EMULATOR_FAIL", fails),
            ("HIRED_EMULATOR_FAIL_FILE", file.to_str().unwrap()),
            ("HIRED_EMULATOR_TRACE", "1"),
        ];
        let program = Path::new(env!("CARGO_BIN_EXE_hired"));
        let mut command = Emulator::build(Build::Plain, &[]).command(program, &environment);
        command
            .args(["serve", "--device", "cuda", "--dtype", "f32", "--gemm", "own", "--port", "0"]);
        command.arg("--model").arg(fixture("models/next-hub"));
        for name in ["HIRED_MODEL", "HIRED_LOG", "HIRED_API_KEY"] {
            command.env_remove(name);
        }
        let trace = std::fs::File::create(folder.path().join("trace")).unwrap();
        let mut child = command.stdout(Stdio::piped()).stderr(trace).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on http://").unwrap().to_owned();
        let server = Self { child, address, folder };
        let begun = Instant::now();
        while Request::get("/ready").send(&server.address).status != 200 {
            assert!(begun.elapsed() < Duration::from_secs(120), "it does not get ready");
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    fn ask(&self, words: &str, stream: bool) -> Reply {
        self.send(&json!({"max_tokens": 6, "stream": stream,
            "messages": [{"role": "user", "content": words}]}))
    }

    fn send(&self, body: &Value) -> Reply {
        Request::post("/v1/chat/completions", &body.to_string()).send(&self.address)
    }

    /// The calls of the driver so far, by name.
    fn calls(&self) -> Vec<String> {
        let trace = std::fs::read_to_string(self.folder.path().join("trace")).unwrap();
        // emulator: call NUMBER, NAME: RESULT
        let name = |line: &str| {
            let (_, rest) = line.strip_prefix("emulator: call ")?.split_once(", ")?;
            Some(rest.split_once(':')?.0.to_owned())
        };
        trace.lines().filter_map(name).collect()
    }

    /// Has a call fail from now on, as the emulator's FAIL.
    fn fail(&self, what: &str) {
        let file = self.folder.path().join("fail.new");
        std::fs::write(&file, what).unwrap();
        std::fs::rename(file, self.folder.path().join("fail")).unwrap();
    }

    /// Which call has failed since it was asked for last.
    fn failed(&self) -> Option<String> {
        let file = self.folder.path().join("fail.failed");
        let name = std::fs::read_to_string(&file).ok()?;
        std::fs::remove_file(file).unwrap();
        Some(name)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The answer's words; `None` where it failed as a failed call of the device does.
fn words(reply: &Reply) -> Option<String> {
    if reply.status == 500 {
        let error = &reply.json()["error"];
        assert_eq!(
            (&error["type"], &error["code"]),
            (&json!("server_error"), &json!("device_failed"))
        );
        assert!(reply.header("x-should-retry").is_none(), "it may go well the next time");
        return None;
    }
    assert_eq!(reply.status, 200, "{}", reply.body);
    if reply.header("content-type") != Some("text/event-stream") {
        return Some(reply.json()["choices"][0]["message"]["content"].as_str().unwrap().into());
    }
    let events = reply.events();
    let mut text = String::new();
    for event in &events {
        if *event == "[DONE]" {
            return Some(text);
        }
        let chunk: Value = serde_json::from_str(event).unwrap();
        if !chunk["error"].is_null() {
            assert_eq!(chunk["error"]["code"], "device_failed", "{event}");
            assert_eq!(*event, *events.last().unwrap());
            return None;
        }
        text += chunk["choices"][0]["delta"]["content"].as_str().unwrap_or_default();
    }
    panic!("a stream just ends: {}", reply.body);
}

/// Which calls of a request fail, by function of the driver and number from 1: all (`tools/test --full`), or of each
/// function the first, one in the middle and the last.
fn chosen(calls: &[String]) -> Vec<(&str, usize)> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    calls.iter().for_each(|name| *counts.entry(name).or_default() += 1);
    let is_full = std::env::var("HIRED_FULL").as_deref() == Ok("1");
    let numbers = |count: usize| -> BTreeSet<usize> {
        if is_full { (1..=count).collect() } else { [1, count.div_ceil(2), count].into() }
    };
    let all = counts.into_iter();
    all.flat_map(|(name, count)| numbers(count).into_iter().map(move |n| (name, n))).collect()
}

/// A request about an image, answered from its start, while another is answered beside it.
#[test]
fn a_call_that_fails_is_told_with_500_and_the_next_request_is_answered() {
    let server = Server::start("");
    let image = std::fs::read(fixture("images/grey-57x41.png")).unwrap();
    let main = json!({"max_tokens": 4, "cache": false, "messages": [{"role": "user", "content": [
        {"type": "image_url", "image_url": {"url": data_url(&image)}},
        {"type": "text", "text": "What is it?"},
    ]}]});
    let beside = json!({"max_tokens": 6, "stream": true,
        "messages": [{"role": "user", "content": "Hello"}]});
    let wanted = [&main, &beside].map(|body| words(&server.send(body)).unwrap());
    // What is made once is there.
    let before = server.calls().len();
    assert_eq!(words(&server.send(&main)).as_ref(), Some(&wanted[0]));
    let calls = server.calls().split_off(before);
    assert!(calls.len() > 50, "{calls:?}");
    let (mut failures, mut unnoticed, mut failed) = (0, BTreeMap::new(), BTreeSet::new());
    for (name, place) in chosen(&calls) {
        server.fail(&format!("{name}:{place}=700"));
        let replies = std::thread::scope(|scope| {
            let other = scope.spawn(|| server.send(&beside));
            [server.send(&main), other.join().unwrap()]
        });
        assert_eq!(server.failed().as_deref(), Some(name), "{name} {place} did not come");
        let told = [words(&replies[0]), words(&replies[1])];
        for (told, wanted) in told.iter().zip(&wanted) {
            assert!(told.as_ref().is_none_or(|told| told == wanted), "{name} {place}: {told:?}");
        }
        match told.iter().any(Option::is_none) {
            true => failures += 1,
            false => *unnoticed.entry(name).or_insert(0) += 1,
        }
        failed.insert(name);
        for (body, wanted) in [&main, &beside].into_iter().zip(&wanted) {
            assert_eq!(words(&server.send(body)).as_ref(), Some(wanted), "after call {place}");
        }
    }
    println!("{} calls, {failures} failures, unnoticed: {unnoticed:?}, of {failed:?}", calls.len());
    assert!(failures > failed.len(), "{failures} failures");
    // What takes no result back cannot be missed: a kernel, a copy, a wait.
    for name in ["cuLaunchKernel", "cuMemcpyDtoHAsync_v2", "cuGraphLaunch"] {
        assert!(failed.contains(name) && !unnoticed.contains_key(name), "{name}: {unnoticed:?}");
    }
    assert_eq!(Request::get("/ready").send(&server.address).status, 200);
    let metrics = Request::get("/metrics").send(&server.address).body;
    let number = |name: &str| -> f64 {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap().parse().unwrap()
    };
    assert_eq!(number("hired_kv_pages_free"), number("hired_kv_pages"), "pages are lost");
}

/// A stream that has begun ends with the error.
#[test]
fn a_stream_ends_with_the_error() {
    let server = Server::start("cuGraphLaunch:1=700");
    let events = server.ask("Hello", true);
    assert_eq!(events.status, 200);
    assert!(events.body.contains("device_failed") && !events.body.contains("[DONE]"));
}

/// A device that fails everything is not worth a server: whoever watches it starts it anew.
#[test]
fn a_lost_device_ends_the_server() {
    let mut server = Server::start("cuLaunchKernel:5=700!");
    for _ in 0..3 {
        assert_eq!(server.ask("Hello", false).status, 500);
    }
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = server.child.try_wait().unwrap() {
            break status;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "it goes on");
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(!status.success());
}
