//! What clients are told when it does not work: OpenAI's statuses and its four keys, always.

use super::{Request, Server, about, client, command, demo, endless, picture, with, within, words};
use serde_json::{Value, json};
use std::io::Write;
use std::net::TcpStream;
use std::path::Path;

/// The error object of a failed request.
fn refused(reply: &client::Reply, status: u16, what: &str) -> Value {
    assert_eq!(reply.status, status, "{what}: {}", reply.body);
    let error = reply.json()["error"].clone();
    let keys: Vec<&String> =
        error.as_object().unwrap_or_else(|| panic!("{what}: {}", reply.body)).keys().collect();
    assert_eq!(keys, ["message", "type", "param", "code"], "{what}");
    assert!(
        error["message"].as_str().is_some_and(|text| !text.is_empty() && !text.contains('\n')),
        "{error}"
    );
    assert!(reply.header("x-request-id").is_some(), "{what}");
    error
}

#[test]
fn a_wrong_body_is_told_by_field() {
    let server = Server::start(&demo(), "");
    let good = picture("grid-2x2.png");
    let user = |content: Value| json!({"messages": [{"role": "user", "content": content}]});
    let url = |url: &str| {
        user(
            json!([{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "?"}]),
        )
    };
    let asked = || words("why", 4);
    let image = "messages[0].content[0].image_url";
    for (body, param, code, says) in [
        (json!([1]), "", "", "must be an object, not an array"),
        (json!({}), "messages", "", "is missing"),
        (json!({"messages": "why"}), "messages", "", "an array, not a string"),
        (json!({"messages": []}), "messages", "", "is empty"),
        (json!({"messages": [7]}), "messages[0]", "", "an object, not a number"),
        (json!({"messages": [{"content": "why"}]}), "messages[0].role", "", "is missing"),
        (json!({"messages": [{"role": "tool", "content": "x"}]}), "messages[0].role", "", "'tool'"),
        (json!({"messages": [{"role": "user"}]}), "messages[0].content", "", "is missing"),
        (user(json!("")), "messages[0].content", "", "is empty"),
        (user(json!(3)), "messages[0].content", "", "an array of parts"),
        (user(json!([{"type": "text"}])), "messages[0].content[0].text", "", "is missing"),
        (user(json!([{"type": "audio"}])), "messages[0].content[0].type", "", "'audio'"),
        (user(json!([{"type": "image_url"}])), image, "", "is missing"),
        (url("https://example.org/a.png"), image, "invalid_image", "does not download"),
        (url("file:///etc/passwd"), image, "invalid_image", "--media-dir"),
        (url("photo.png"), image, "invalid_image", "data: URL"),
        (url("data:image/png;base64,a!"), image, "invalid_image", "damaged"),
        (url("data:image/png;base64,"), image, "invalid_image", "empty"),
        (url("data:image/png;base64,aGlyZWQ="), image, "invalid_image", "image"),
        (
            json!({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}),
            "messages",
            "",
            "must be the user's",
        ),
        (
            json!({"messages": [{"role": "system", "content": [{"type": "image_url"}]}]}),
            "messages[0].content[0].type",
            "",
            "only a user's",
        ),
        (with(asked(), json!({"n": 2})), "n", "", "one answer"),
        (with(asked(), json!({"logprobs": true})), "logprobs", "", "not supported"),
        (with(asked(), json!({"tools": [{"type": "function"}]})), "tools", "", "not supported"),
        (
            with(asked(), json!({"response_format": {"type": "json_object"}})),
            "response_format",
            "",
            "not supported",
        ),
        (with(asked(), json!({"presence_penalty": 0.5})), "presence_penalty", "", "not supported"),
        (with(asked(), json!({"temperature": -1})), "temperature", "", "0 to 2, not -1"),
        (with(asked(), json!({"temperature": "hot"})), "temperature", "", "not a string"),
        (with(asked(), json!({"top_p": 1.5})), "top_p", "", "0 to 1"),
        (with(asked(), json!({"max_tokens": 0})), "max_tokens", "", "at least 1"),
        (
            with(asked(), json!({"max_completion_tokens": 1.5})),
            "max_completion_tokens",
            "",
            "whole number",
        ),
        (with(asked(), json!({"stop": [1]})), "stop", "", "string"),
        (with(asked(), json!({"stop": ""})), "stop", "", "empty"),
        (with(asked(), json!({"seed": "x"})), "seed", "", "whole number"),
        (with(asked(), json!({"stream": 1})), "stream", "", "true or false"),
        (with(asked(), json!({"budget": "lots"})), "budget", "", "20%"),
        (with(asked(), json!({"hired": {"budget": "0%"}})), "hired.budget", "", "keeps no token"),
        (
            with(asked(), json!({"hired": {"methods": "hired"}})),
            "hired.methods",
            "",
            "no such field",
        ),
        (with(asked(), json!({"hired": {"method": "best"}})), "hired.method", "", "give one of"),
        (with(asked(), json!({"model": "model@lots"})), "model", "", "lots"),
    ] {
        for stream in [false, true] {
            let body = match &body {
                Value::Object(_) if body["stream"].is_null() => {
                    with(body.clone(), json!({"stream": stream}))
                }
                other => other.clone(),
            };
            let what = body.to_string();
            let error = refused(&server.chat(&body), 400, &what);
            assert_eq!(error["type"], "invalid_request_error", "{what}");
            let expected = Value::from(Some(param).filter(|param| !param.is_empty()));
            assert_eq!(error["param"], expected, "{what}: {error}");
            assert_eq!(
                error["code"],
                Value::from(Some(code).filter(|code| !code.is_empty())),
                "{error}"
            );
            assert!(error["message"].as_str().unwrap().contains(says), "{what}: {error}");
        }
    }
    let error = refused(
        &server.send(&Request::post("/v1/chat/completions", "{\"a\":")),
        400,
        "half a body",
    );
    assert!(error["message"].as_str().unwrap().contains("not valid JSON"), "{error}");
    // Nothing of this has harmed it.
    let reply = server.chat(&about(&good, "What number is on the yellow sign?"));
    assert_eq!(reply.json()["choices"][0]["message"]["content"], "78");
}

#[test]
fn what_clients_send_without_meaning_it_passes() {
    let server = Server::start(&demo(), "");
    let fields = json!({
        "n": 1, "logprobs": false, "top_logprobs": 0, "tools": [], "tool_choice": "none", "user": "me", "store": false,
        "presence_penalty": 0, "frequency_penalty": 0.0, "logit_bias": {}, "response_format": {"type": "text"},
        "stop": null, "temperature": null, "seed": null, "stream_options": null, "metadata": {}, "top_k": -1,
        "max_tokens": null, "max_completion_tokens": 4.0, "invented": [1, 2], "another": true,
    });
    let reply = server.chat(&with(words("why", 4), fields));
    assert_eq!(reply.status, 200, "{}", reply.body);
    assert_eq!(server.metric("hired_unknown_fields_total"), 2.0);
}

#[test]
fn paths_methods_models_and_media_types() {
    let server = Server::start(&demo(), "");
    let body = words("why", 4).to_string();
    let post = |path: &str| Request::post(path, &body);
    let plain = |kind: &str| {
        let request = Request::new("POST", "/v1/chat/completions").header("Content-Type", kind);
        Request { body: body.clone().into(), ..request }
    };
    for (request, status, code) in [
        (Request::get("/v1/nothing"), 404, "not_found"),
        (post("/chat"), 404, "not_found"),
        (Request::get("/v1/chat/completions"), 405, "method_not_allowed"),
        (post("/health"), 405, "method_not_allowed"),
        (Request::new("DELETE", "/v1/models"), 405, "method_not_allowed"),
        (Request::get("/v1/models/other"), 404, "model_not_found"),
        (plain("text/plain"), 415, "unsupported_media_type"),
        (plain("application/x-www-form-urlencoded"), 415, "unsupported_media_type"),
    ] {
        let what = request.head.clone();
        assert_eq!(refused(&server.send(&request), status, &what)["code"], code, "{what}");
    }
    let other = with(words("why", 4), json!({"model": "gpt-4o"}));
    let error = refused(&server.chat(&other), 404, "another model");
    assert_eq!((&error["code"], &error["param"]), (&json!("model_not_found"), &json!("model")));
    assert_eq!(server.send(&plain("application/json; charset=utf-8")).status, 200);
    assert_eq!(server.metric("hired_rejected_total{reason=\"not_found\"}"), 2.0);
}

#[test]
fn keys_guard_the_api_alone() {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("serve-keys");
    std::fs::write(&file, "first-key\n\n second-key \n").unwrap();
    let server =
        Server::start(&demo(), &format!("--api-key third-key --api-key-file {}", file.display()));
    let ask = |key: Option<&str>| {
        let request = Request::get("/v1/models");
        server.send(&match key {
            Some(key) => request.header("Authorization", key),
            None => request,
        })
    };
    for key in ["Bearer first-key", "bearer second-key", "Bearer third-key"] {
        assert_eq!(ask(Some(key)).status, 200, "{key}");
    }
    for key in [
        None,
        Some("Bearer"),
        Some("Bearer "),
        Some("Bearer first-ke"),
        Some("Basic first-key"),
        Some("first-key"),
    ] {
        let reply = ask(key);
        let error = refused(&reply, 401, &format!("{key:?}"));
        assert_eq!(
            (&error["type"], &error["code"]),
            (&json!("authentication_error"), &json!("invalid_api_key"))
        );
        assert_eq!(reply.header("www-authenticate"), Some("Bearer"));
    }
    let body = words("why", 2);
    refused(&server.chat(&body), 401, "a question without a key");
    for open in ["/", "/health", "/ready", "/metrics"] {
        assert_eq!(server.get(open).status, 200, "{open}");
    }
}

#[test]
fn large_and_slow_bodies_end() {
    let server = Server::start(&demo(), "--max-body 10KB --body-timeout 0.3 --header-timeout 0.5");
    let large = words(&"why ".repeat(5000), 4);
    assert_eq!(refused(&server.chat(&large), 413, "by its length")["code"], "request_too_large");
    // One that does not say how long it is.
    let mut stream = TcpStream::connect(&server.address).unwrap();
    let head = "POST /v1/chat/completions HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\nConnection: close\r\n";
    write!(stream, "{head}Transfer-Encoding: chunked\r\n\r\n2000\r\n").unwrap();
    let _ = stream.write_all(&[b' '; 0x2000]);
    let _ = write!(stream, "\r\n2000\r\n");
    let _ = stream.write_all(&[b' '; 0x2000]);
    refused(&client::Reply::read(stream), 413, "by what came");
    let mut stream = TcpStream::connect(&server.address).unwrap();
    write!(stream, "{head}Content-Length: 100\r\n\r\n{{").unwrap();
    assert_eq!(refused(&client::Reply::read(stream), 408, "slow")["code"], "request_timeout");
    // Whoever sends half a head, or nothing, is closed without an answer.
    for half in ["", "GET /health HT"] {
        let mut stream = TcpStream::connect(&server.address).unwrap();
        write!(stream, "{half}").unwrap();
        stream.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
        let mut rest = Vec::new();
        let read = std::io::Read::read_to_end(&mut stream, &mut rest);
        let told = String::from_utf8_lossy(&rest).into_owned();
        assert!(
            read.is_ok() && (told.is_empty() || told.starts_with("HTTP/1.1 408")),
            "{half}: {told}"
        );
    }
}

#[test]
fn bounds_of_a_request() {
    let server = Server::start(&demo(), "--max-pixels 10000 --max-images 1 --max-tokens 100");
    let url = picture("grid-2x2.png");
    let error = refused(&server.chat(&about(&url, "what")), 400, "pixels");
    assert_eq!(error["code"], "invalid_image");
    let part = json!({"type": "image_url", "image_url": url});
    let two = json!({"messages": [{"role": "user", "content": [part, part]}]});
    let error = refused(&server.chat(&two), 400, "images");
    assert!(error["message"].as_str().unwrap().contains("2 images"), "{error}");
    let error = refused(&server.chat(&words("why", 101)), 400, "tokens");
    assert_eq!(error["param"], "max_tokens");
}

/// What clients cut their conversations by.
#[test]
fn a_prompt_beyond_the_context_is_told_with_the_numbers() {
    let server = Server::start(&demo(), "");
    let limit = server.get("/v1/models").json()["data"][0]["max_model_len"].as_u64().unwrap();
    let long = words(&"why ".repeat(limit as usize), 4);
    for stream in [false, true] {
        let reply = server.chat(&with(long.clone(), json!({"stream": stream})));
        assert_eq!(reply.status, 400, "{}", reply.body);
        let error = &reply.json()["error"];
        assert_eq!(error["code"], "context_length_exceeded");
        assert_eq!(
            (&error["type"], &error["param"]),
            (&json!("invalid_request_error"), &json!("messages"))
        );
        assert_eq!(error["n_ctx"], limit);
        assert!(error["n_prompt_tokens"].as_u64().unwrap() > limit, "{error}");
    }
}

/// Whoever takes nothing of what it asked for is let go.
#[test]
fn a_client_that_reads_nothing_is_closed() {
    let server = Server::start(&demo(), "--send-timeout 0.5");
    let idle = server.metric("hired_connections");
    let mut stream = TcpStream::connect(&server.address).unwrap();
    stream.set_write_timeout(Some(std::time::Duration::from_millis(200))).unwrap();
    // Answers to these are more than all buffers on the way hold.
    let many = "GET /metrics HTTP/1.1\r\nHost: t\r\n\r\n".repeat(1000);
    for _ in 0..20 {
        if stream.write_all(many.as_bytes()).is_err() {
            break;
        }
    }
    within(30, || server.metric("hired_connections") == idle);
    assert_eq!(server.chat(&words("why", 2)).status, 200);
}

#[test]
fn a_full_queue_is_told_with_a_time() {
    let server = Server::start(endless(), "--max-waiting 1");
    let body = with(words("a b c", 3500), json!({"stream": true})).to_string();
    let ask = || Request::post("/v1/chat/completions", &body).open(&server.address);
    let mut held = Vec::new();
    // As many run at once as the engine likes; the next waits, and one more is too much. One that is about to begin waits
    // too, for a moment: then there is still room.
    let reply = loop {
        held.push(ask());
        assert!(held.len() < 100);
        if server.metric("hired_requests_waiting") >= 1.0 {
            let reply = server.chat(&words("why", 4));
            if reply.status != 200 {
                break reply;
            }
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    };
    let error = refused(&reply, 429, "full");
    assert_eq!(
        (&error["type"], &error["code"]),
        (&json!("rate_limit_error"), &json!("queue_full"))
    );
    let seconds: u64 = reply.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=120).contains(&seconds));
    assert_eq!(server.get("/ready").status, 503);
    assert_eq!(server.get("/health").status, 200);
    drop(held);
    within(30, || server.get("/ready").status == 200);
    assert_eq!(server.chat(&words("why", 2)).status, 200);
}

#[test]
fn what_cannot_start_says_why() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let nowhere = Path::new("/nowhere");
    for (model, options, says) in [
        (demo().as_path(), format!("--port {port}"), "choose another port"),
        (nowhere, String::new(), "/nowhere"),
        (demo().as_path(), "--media-dir /nowhere".into(), "--media-dir /nowhere"),
        (demo().as_path(), "--api-key-file /dev/null".into(), "no key"),
    ] {
        // The last --port holds.
        let mut command = command(model, "");
        if options.starts_with("--port") {
            command = std::process::Command::new(env!("CARGO_BIN_EXE_hired"));
            command.args(["serve", "--device", "cpu", "--model"]).arg(model);
        }
        let output = command.args(options.split_whitespace()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        let line = said
            .lines()
            .find(|line| line.starts_with("hired: "))
            .unwrap_or_else(|| panic!("{said:?}"));
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(line.contains(says), "{line}");
    }
}
