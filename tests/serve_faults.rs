//! `hired serve` on a GPU of which one call fails: the request is told so with 500, and the server answers the next.
#![cfg(all(feature = "serve", feature = "cuda", target_os = "linux", target_arch = "x86_64"))]

#[path = "serve/client.rs"]
mod client;
mod common;
#[path = "support/emulator.rs"]
mod emulator;

use client::{Reply, Request};
use common::golden::fixture;
use emulator::{Build, Emulator};
use serde_json::json;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

struct Server {
    child: Child,
    address: String,
}

impl Server {
    /// On the emulator, where that fails; ready for requests.
    fn start(fails: &str) -> Self {
        let environment = [("HIRED_EMULATOR_SM", "61"), ("HIRED_EMULATOR_FAIL", fails)];
        let program = Path::new(env!("CARGO_BIN_EXE_hired"));
        let mut command = Emulator::build(Build::Plain, &[]).command(program, &environment);
        command
            .args(["serve", "--device", "cuda", "--dtype", "f32", "--gemm", "own", "--port", "0"]);
        command.arg("--model").arg(fixture("models/next-hub"));
        for name in ["HIRED_MODEL", "HIRED_LOG", "HIRED_API_KEY"] {
            command.env_remove(name);
        }
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on http://").unwrap().to_owned();
        let server = Self { child, address };
        let begun = Instant::now();
        while Request::get("/ready").send(&server.address).status != 200 {
            assert!(begun.elapsed() < Duration::from_secs(120), "it does not get ready");
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    fn ask(&self, words: &str, stream: bool) -> Reply {
        let body = json!({"max_tokens": 6, "stream": stream,
            "messages": [{"role": "user", "content": words}]});
        Request::post("/v1/chat/completions", &body.to_string()).send(&self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_call_that_fails_is_told_with_500_and_the_next_request_is_answered() {
    let text = |reply: &Reply| reply.json()["choices"][0]["message"]["content"].clone();
    let wanted = text(&Server::start("").ask("Hello", false));
    // A kernel of a prompt, the copy that brings its token, a replayed step.
    for fails in ["cuLaunchKernel:5=700", "cuMemcpyDtoHAsync_v2:1=700", "cuGraphLaunch:1=700"] {
        let server = Server::start(fails);
        let failed = server.ask("Hello", false);
        assert_eq!(failed.status, 500, "{fails}: {}", failed.body);
        let error = &failed.json()["error"];
        assert_eq!(
            (&error["type"], &error["code"]),
            (&json!("server_error"), &json!("device_failed"))
        );
        assert!(failed.header("x-should-retry").is_none(), "it may go well the next time");
        assert_eq!(text(&server.ask("Hello", false)), wanted, "{fails}");
        assert_eq!(Request::get("/ready").send(&server.address).status, 200);
    }
    // A stream that has begun ends with the error.
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
