//! Clients that leave, and the end of the server.

use super::{Request, Server, client, demo, endless, with, within, words};
use serde_json::{Value, json};
use std::io::Read;
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// A stream of which the first token has come.
fn begun(server: &Server, tokens: usize) -> TcpStream {
    let body = with(words("a b c", tokens), json!({"stream": true}));
    let mut stream = Request::post("/v1/chat/completions", &body.to_string()).open(&server.address);
    let mut some = vec![0; 600];
    stream.read_exact(&mut some).unwrap();
    assert!(some.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&some));
    stream
}

fn rest(mut stream: TcpStream) -> String {
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    rest
}

#[test]
fn a_client_that_leaves_ends_its_request() {
    let server = Server::start(endless(), "");
    let streamed = begun(&server, 4000);
    let body = words("a b c", 4000).to_string();
    let whole = Request::post("/v1/chat/completions", &body).open(&server.address);
    within(30, || {
        server.metric("hired_requests_running") + server.metric("hired_requests_waiting") == 2.0
    });
    drop(streamed);
    drop(whole);
    within(10, || {
        server.metric("hired_requests_running") + server.metric("hired_requests_waiting") == 0.0
    });
    assert_eq!(server.metric("hired_rejected_total{reason=\"client_left\"}"), 2.0);
    assert_eq!(server.chat(&words("why", 2)).status, 200);
    let (status, log) = server.stop();
    assert_eq!(status, Some(0));
    assert_eq!(log.matches("outcome=\"the client disconnected\"").count(), 2, "{log}");
}

#[test]
fn a_signal_lets_those_finish_who_are_there() {
    let server = Server::start(endless(), "--drain-delay 0.4");
    let stream = begun(&server, 300);
    // Browsers open connections ahead, and say nothing on them.
    let idle = TcpStream::connect(&server.address).unwrap();
    server.signal("-TERM");
    within(10, || server.get("/ready").status == 503);
    assert_eq!(server.get("/health").status, 200);
    let rest = rest(stream);
    assert!(
        rest.contains("\"finish_reason\":\"length\"") && rest.contains("data: [DONE]"),
        "{rest}"
    );
    let begun = Instant::now();
    let (status, log) = server.end();
    assert_eq!(status, Some(0), "{log}");
    assert!(begun.elapsed() < Duration::from_secs(10));
    drop(idle);
}

#[test]
fn what_takes_too_long_ends_with_an_error() {
    let server = Server::start(endless(), "--drain-timeout 0.3");
    let stream = begun(&server, 4000);
    server.signal("-INT");
    let rest = rest(stream);
    let last = rest.lines().rev().find_map(|line| line.strip_prefix("data: ")).unwrap();
    let error: Value = serde_json::from_str(last).unwrap();
    assert_eq!(error["error"]["code"], "stopping", "{rest}");
    assert!(!rest.contains("[DONE]"));
    assert_eq!(server.end().0, Some(0));
}

#[test]
fn a_second_signal_ends_at_once() {
    let server = Server::start(endless(), "");
    let _stream = begun(&server, 4000);
    server.signal("-TERM");
    within(10, || server.get("/ready").status == 503);
    let reply = server.chat(&words("why", 2));
    assert_eq!((reply.status, &reply.json()["error"]["code"]), (503, &json!("stopping")));
    assert!(reply.header("retry-after").is_some());
    server.signal("-TERM");
    assert_eq!(server.end().0, Some(130));
}

#[test]
fn silence_is_filled_with_comments() {
    let server = Server::start(endless(), "--keep-alive 0.05 --max-waiting 100");
    // Enough of them that some must wait.
    let body = with(words("a b c", 200), json!({"stream": true})).to_string();
    let ask = || Request::post("/v1/chat/completions", &body).open(&server.address);
    let streams: Vec<TcpStream> = (0..12).map(|_| ask()).collect();
    let replies: Vec<client::Reply> = streams.into_iter().map(client::Reply::read).collect();
    assert!(replies.iter().any(|reply| reply.body.starts_with(": ")));
    let mut all: Vec<String> = Vec::new();
    for reply in &replies {
        let mut events = reply.events();
        assert_eq!(events.pop(), Some("[DONE]"));
        let chunks: Vec<Value> =
            events.iter().map(|event| serde_json::from_str(event).unwrap()).collect();
        assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
        let delta = |chunk: &Value| {
            chunk["choices"][0]["delta"]["content"].as_str().unwrap_or_default().to_owned()
        };
        all.push(chunks.iter().map(delta).collect());
    }
    assert!(all.iter().all(|text| text == &all[0] && !text.is_empty()));
}

#[test]
fn words_stay_out_of_the_log() {
    for (options, told) in [("-v", false), ("-v --log-prompts --log-json", true)] {
        let server = Server::start(&demo(), options);
        server.chat(&words("zebra", 4));
        server.chat(&with(words("zebra", 4), json!({"stream": true, "hired": {"zebra": 1}})));
        server.chat(&json!({"messages": [{"role": "zebra", "content": "zebra"}]}));
        let reply = server.send(
            &Request::post("/v1/chat/completions", &words("zebra", 2).to_string())
                .header("X-Request-Id", "my-7"),
        );
        assert_eq!(reply.header("x-request-id"), Some("my-7"));
        let (status, log) = server.stop();
        assert_eq!(status, Some(0));
        assert_eq!(log.contains("zebra"), told, "{log}");
        assert!(log.contains("my-7"), "{log}");
        if told {
            let lines: Vec<Value> =
                log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            let of_request = |line: &&Value| {
                line["message"] == "request" && line["path"] == "/v1/chat/completions"
            };
            let line = lines.iter().find(of_request).unwrap();
            assert!(line["ttft"].as_f64().is_some() && line["status"] == 200, "{line}");
            assert_eq!(lines.iter().filter(of_request).count(), 4);
        }
    }
}
