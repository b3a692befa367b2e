//! `hired serve` as its clients meet it: requests over loopback, answers, failures, and the end of the program.
#![cfg(all(unix, feature = "serve"))]

mod answers;
mod client;
mod errors;
mod fetch;
mod life;
mod load;

use client::{Reply, Request};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// A server of its own for a test; it ends with it.
struct Server {
    child: Child,
    address: String,
    /// What it writes to standard error: a pipe that nobody empties would stop it.
    log: PathBuf,
}

/// Small, trained, and quick to end its answers.
fn demo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("demo/model")
}

/// Random weights, whose answers go on for minutes.
fn endless() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("serve-endless");
        let _ = std::fs::remove_dir_all(&folder);
        let mut command = Command::new(env!("CARGO_BIN_EXE_hired"));
        command.args(["synth", "--preset", "tiny", "--out"]).arg(&folder);
        assert!(command.status().unwrap().success());
        folder
    })
}

fn command(model: &Path, options: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hired"));
    for name in ["HIRED_MODEL", "HIRED_LOG", "HIRED_API_KEY"] {
        command.env_remove(name);
    }
    command.args(["serve", "--device", "cpu", "--port", "0", "--model"]).arg(model);
    command.args(options.split_whitespace());
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

impl Server {
    /// Started, and ready for requests.
    fn start(model: &Path, options: &str) -> Self {
        let server = Self::listening(model, options);
        within(60, || server.get("/ready").status == 200);
        server
    }

    /// Started; the model may not be there yet.
    fn listening(model: &Path, options: &str) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let name = format!("serve-{}.log", NUMBER.fetch_add(1, Ordering::Relaxed));
        let log = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let to = std::fs::File::create(&log).unwrap();
        let mut child = command(model, options).stderr(to).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on http://");
        let address = address.unwrap_or_else(|| panic!("{line:?}")).to_owned();
        Self { child, address, log }
    }

    fn get(&self, path: &str) -> Reply {
        self.send(&Request::get(path))
    }

    fn send(&self, request: &Request) -> Reply {
        request.send(&self.address)
    }

    fn chat(&self, body: &Value) -> Reply {
        self.send(&Request::post("/v1/chat/completions", &body.to_string()))
    }

    /// A number of the metrics.
    fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").body;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
    }

    fn signal(&self, name: &str) {
        let kill = Command::new("kill").args([name, &self.child.id().to_string()]).status();
        assert!(kill.unwrap().success());
    }

    /// Waits for the end: its status, and the log.
    fn end(mut self) -> (Option<i32>, String) {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "it does not end");
            std::thread::sleep(Duration::from_millis(10));
        };
        (status.code(), std::fs::read_to_string(&self.log).unwrap())
    }

    fn stop(self) -> (Option<i32>, String) {
        self.signal("-TERM");
        self.end()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until something holds.
fn within(seconds: u64, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(seconds), "not within {seconds} s");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A picture of the repository as a `data:` URL.
fn picture(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("demo/images").join(name);
    client::data_url(&std::fs::read(path).unwrap())
}

/// A body that asks about a picture.
fn about(url: &str, words: &str) -> Value {
    json!({"model": "model", "max_tokens": 8, "messages": [{"role": "user", "content": [
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "text", "text": words},
    ]}]})
}

/// A body that asks in words alone.
fn words(text: &str, tokens: usize) -> Value {
    json!({"max_tokens": tokens, "messages": [{"role": "user", "content": text}]})
}

/// The body with some fields set.
fn with(mut body: Value, fields: Value) -> Value {
    let fields = fields.as_object().unwrap().clone();
    body.as_object_mut().unwrap().extend(fields);
    body
}
