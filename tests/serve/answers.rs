//! Answers over HTTP: their shape, and that they are the program's own.

use super::{Request, Server, about, demo, picture, with, words};
use serde_json::{Value, json};
use std::process::Command;

const SIGN: &str = "What number is on the yellow sign?";

/// What `hired run` answers.
fn run(image: &str, words: &str, rest: &[&str]) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hired"));
    let image = format!("{}/demo/images/{image}", env!("CARGO_MANIFEST_DIR"));
    command.args([
        "run",
        "--json",
        "-q",
        "--device",
        "cpu",
        "--literal",
        "-i",
        &image,
        "-p",
        words,
        "-m",
    ]);
    let output = command.arg(demo()).args(rest).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn a_whole_answer_is_that_of_the_program() {
    let server = Server::start(&demo(), "");
    let url = picture("grid-2x2.png");
    let value = server.chat(&about(&url, SIGN)).json();
    let own = run("grid-2x2.png", SIGN, &["-n", "8"]);
    assert_eq!(
        keys(&value),
        ["id", "object", "created", "model", "system_fingerprint", "choices", "usage", "hired"]
    );
    assert!(value["id"].as_str().unwrap().starts_with("chatcmpl-"));
    assert_eq!(value["object"], "chat.completion");
    let choice = &value["choices"][0];
    assert_eq!(keys(choice), ["index", "message", "logprobs", "finish_reason"]);
    assert_eq!(
        choice["message"],
        json!({"role": "assistant", "content": own["text"], "refusal": null})
    );
    assert_eq!(choice["finish_reason"], "stop");
    let (usage, hired) = (&value["usage"], &value["hired"]);
    let prompt = own["prompt_tokens"].as_u64().unwrap();
    let new = own["token_ids"].as_array().unwrap().len() as u64;
    assert_eq!(
        (&usage["prompt_tokens"], &usage["completion_tokens"]),
        (&json!(prompt), &json!(new))
    );
    assert_eq!(usage["total_tokens"], prompt + new);
    assert_eq!(usage["prompt_tokens_details"]["image_tokens"], own["visual"]["kept"]);
    for key in ["method", "rule", "alpha"] {
        assert_eq!(hired[key], own[key], "{key}");
    }
    for key in ["grid", "partitions", "valid", "budget", "kept", "allocation"] {
        assert_eq!(hired["visual"][key], own["visual"][key], "{key}");
    }
    assert!(hired["visual"].get("kept_indices").is_none() && hired.get("overlay").is_none());
    assert_eq!((&hired["budget"], &hired["seed"]), (&json!("20%"), &Value::Null));
    assert!(hired["timings"]["ttft"].as_f64().unwrap() > 0.0);
}

#[test]
fn the_engines_own_fields_reach_it_by_three_ways() {
    let server = Server::start(&demo(), "");
    let ask = |fields: Value| {
        let reply = server.chat(&with(about(&picture("grid-2x2.png"), SIGN), fields));
        assert_eq!(reply.status, 200, "{}", reply.body);
        reply.json()["hired"].clone()
    };
    for fields in [
        json!({"budget": "10%"}),
        json!({"hired": {"budget": "10%"}}),
        json!({"model": "model@10%"}),
        json!({"model": "model@full", "budget": 32}),
    ] {
        assert_eq!(ask(fields.clone())["visual"]["kept"], 32, "{fields}");
    }
    let value = ask(
        json!({"method": "spatial", "newlines": "all", "hired": {"kept": true, "overlay": true}}),
    );
    let visual = &value["visual"];
    assert_eq!(value["method"], "spatial");
    assert!(visual["newlines"].as_u64().unwrap() > 0);
    let indices = visual["kept_indices"].as_array().unwrap();
    let kept: usize = indices.iter().map(|part| part.as_array().unwrap().len()).sum();
    assert_eq!(visual["kept"], kept);
    let png = value["overlay"].as_str().unwrap().strip_prefix("data:image/png;base64,").unwrap();
    assert!(png.starts_with("iVBORw0KGgo") && png.len() > 1000);
    let value = ask(json!({"rule": "paper", "alpha": 0.25}));
    assert_eq!((&value["rule"], &value["alpha"]), (&json!("paper"), &json!(0.25)));
}

#[test]
fn a_stream_has_the_pieces_of_the_whole() {
    let server = Server::start(&demo(), "");
    // The same usage again.
    let body = with(about(&picture("grid-2x2.png"), SIGN), json!({"cache": false}));
    let whole = server.chat(&body).json();
    for usage in [false, true] {
        let fields = json!({"stream": true, "stream_options": {"include_usage": usage}});
        let reply = server.chat(&with(body.clone(), fields));
        assert_eq!(reply.header("cache-control"), Some("no-cache"));
        let mut events = reply.events();
        assert_eq!(events.pop(), Some("[DONE]"));
        let mut chunks: Vec<Value> =
            events.iter().map(|event| serde_json::from_str(event).unwrap()).collect();
        assert!(
            chunks.iter().all(|chunk| chunk["object"] == "chat.completion.chunk"
                && chunk["id"] == chunks[0]["id"])
        );
        // Uninvited, the chunk without choices makes naive clients fail.
        if usage {
            let last = chunks.pop().unwrap();
            assert_eq!((&last["choices"], &last["usage"]), (&json!([]), &whole["usage"]));
            assert!(chunks.iter().all(|chunk| chunk.get("usage") == Some(&Value::Null)));
        } else {
            assert!(chunks.iter().all(|chunk| chunk.get("usage").is_none()));
        }
        let choice = |chunk: &Value| chunk["choices"][0].clone();
        assert_eq!(choice(&chunks[0])["delta"], json!({"role": "assistant", "content": ""}));
        let last = chunks.pop().unwrap();
        assert_eq!(
            (&choice(&last)["delta"], &choice(&last)["finish_reason"]),
            (&json!({}), &json!("stop"))
        );
        assert_eq!(last["hired"]["visual"], whole["hired"]["visual"]);
        assert!(chunks.iter().all(|chunk| choice(chunk)["finish_reason"].is_null()));
        let text: String = chunks
            .iter()
            .map(|chunk| choice(chunk)["delta"]["content"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(text, whole["choices"][0]["message"]["content"].as_str().unwrap());
    }
}

#[test]
fn text_completions() {
    let server = Server::start(&demo(), "");
    let ask = |body: Value| server.send(&Request::post("/v1/completions", &body.to_string()));
    let value = ask(json!({"model": "model", "prompt": "what", "max_tokens": 3})).json();
    assert_eq!(value["object"], "text_completion");
    assert!(value["id"].as_str().unwrap().starts_with("cmpl-"));
    let whole = value["choices"][0]["text"].as_str().unwrap().to_owned();
    let chat = server.chat(&words("what", 3)).json();
    assert_eq!(chat["choices"][0]["message"]["content"], whole);
    let reply = ask(json!({"prompt": ["what"], "max_tokens": 3, "stream": true}));
    let mut events = reply.events();
    assert_eq!(events.pop(), Some("[DONE]"));
    let chunks = events.iter().map(|event| serde_json::from_str::<Value>(event).unwrap());
    let text: String =
        chunks.map(|chunk| chunk["choices"][0]["text"].as_str().unwrap().to_owned()).collect();
    assert_eq!(text, whole);
    for wrong in [
        json!({}),
        json!({"prompt": ""}),
        json!({"prompt": ["a", "b"]}),
        json!({"prompt": "a", "echo": true}),
    ] {
        assert_eq!(ask(wrong.clone()).status, 400, "{wrong}");
    }
}

#[test]
fn drawing_and_ending() {
    let server = Server::start(super::endless(), "");
    let ask = |fields: Value| server.chat(&with(words("a b c", 24), fields)).json();
    let text =
        |value: &Value| value["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
    let chosen = ask(json!({"temperature": 1.5, "seed": 7}));
    assert_eq!(chosen["hired"]["seed"], 7);
    assert_eq!(text(&chosen), text(&ask(json!({"temperature": 1.5, "seed": 7}))));
    // A seed that nobody gave is told, and gives the same again.
    let drawn = ask(json!({"temperature": 1.5}));
    let seed = &drawn["hired"]["seed"];
    assert!(seed.is_u64());
    assert_eq!(text(&drawn), text(&ask(json!({"temperature": 1.5, "seed": seed}))));
    assert_ne!(text(&drawn), text(&chosen));
    let whole = ask(json!({}));
    assert_eq!(
        (&whole["choices"][0]["finish_reason"], &whole["usage"]["completion_tokens"]),
        (&json!("length"), &json!(24))
    );
    let words = text(&whole);
    let middle: String = words.chars().skip(6).take(4).collect();
    let ended = ask(json!({"stop": [middle]}));
    assert_eq!(text(&ended), words[..words.find(&middle).unwrap()]);
    assert_eq!(ended["choices"][0]["finish_reason"], "stop");
    assert_eq!(ask(json!({"max_completion_tokens": 2}))["usage"]["completion_tokens"], 2);
}

#[test]
fn files_below_the_folder_alone() {
    let dir = format!("{}/demo/images", env!("CARGO_MANIFEST_DIR"));
    let server = Server::start(&demo(), &format!("--media-dir {dir}"));
    let ask = |url: &str| server.chat(&about(url, SIGN));
    for url in [
        format!("file://{dir}/grid-2x2.png"),
        format!("file:{dir}/grid-2x2.png"),
        "file:grid%2D2x2.png".into(),
    ] {
        let reply = ask(&url);
        assert_eq!(reply.status, 200, "{url}: {}", reply.body);
        assert_eq!(reply.json()["choices"][0]["message"]["content"], "78");
    }
    let link = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("serve-media");
    let _ = std::fs::remove_dir_all(&link);
    std::fs::create_dir_all(&link).unwrap();
    std::os::unix::fs::symlink(format!("{dir}/grid-2x2.png"), link.join("out.png")).unwrap();
    let linked = Server::start(&demo(), &format!("--media-dir {}", link.display()));
    let outside = linked.chat(&about("file:out.png", SIGN));
    let mut told = vec![outside];
    for url in [
        "file:///etc/passwd",
        "file:../questions.jsonl",
        "file:%2e%2e/model/config.json",
        "file:none.png",
        "file:",
    ] {
        told.push(ask(url));
    }
    // Nobody learns which files there are.
    for reply in told {
        assert_eq!(reply.status, 400);
        assert!(reply.body.contains("no such file below the folder"), "{}", reply.body);
    }
}

#[test]
fn models_the_page_and_metrics() {
    let server = Server::start(&demo(), "--served-name llava/demo");
    let list = server.get("/v1/models").json();
    assert_eq!((&list["object"], &list["data"][0]["id"]), (&json!("list"), &json!("llava/demo")));
    assert_eq!(server.get("/v1/models/llava/demo").json(), list["data"][0]);
    let page = server.get("/");
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    let policy = page.header("content-security-policy").unwrap();
    assert!(
        policy.contains("default-src 'none'") && policy.contains("script-src 'sha256-"),
        "{policy}"
    );
    // It needs no network but this server.
    assert!(
        !page.body.contains("http://")
            && !page.body.contains("https://")
            && !page.body.contains("src=\"//")
    );
    assert_eq!(server.get("/favicon.ico").status, 200);

    let body = with(about(&picture("grid-2x2.png"), SIGN), json!({"model": "llava/demo"}));
    let usage = server.chat(&body).json()["usage"].clone();
    assert_eq!(
        server.metric("hired_prompt_tokens_total"),
        usage["prompt_tokens"].as_f64().unwrap()
    );
    assert_eq!(
        server.metric("hired_generation_tokens_total"),
        usage["completion_tokens"].as_f64().unwrap()
    );
    assert_eq!(server.metric("hired_visual_tokens_total{which=\"kept\"}"), 64.0);
    assert_eq!(server.metric("hired_request_success_total{finished_reason=\"stop\"}"), 1.0);
    assert_eq!(server.metric("hired_time_to_first_token_seconds_count"), 1.0);
    for gauge in [
        "hired_requests_running",
        "hired_requests_waiting",
        "vllm:num_requests_running",
        "vllm:num_requests_waiting",
    ] {
        assert_eq!(server.metric(gauge), 0.0, "{gauge}");
    }
    let text = server.get("/metrics");
    assert!(text.header("content-type").unwrap().starts_with("text/plain; version=0.0.4"));
    let families = text.body.lines().filter(|line| line.starts_with("# TYPE ")).count();
    assert!(families > 20, "{families}");
}

/// The same picture again, another question about it, and a request that wants nothing of it.
#[test]
fn what_was_seen_before_is_not_computed_again() {
    let server = Server::start(&demo(), "--max-stall 0");
    let apart = Server::start(&demo(), "--cache-memory 0");
    let url = picture("grid-2x2.png");
    let other = "Which colour has number 38?";
    let aside = json!({"hired": {"cache": false}});
    for (words, fields, images, is_cut) in [
        (SIGN, json!({}), 0, false),
        (SIGN, json!({}), 1, true),
        (other, json!({}), 1, true),
        (other, aside, 0, false),
        (other, json!({"budget": "10%"}), 0, false),
        (other, json!({"rule": "paper"}), 0, false),
        (SIGN, json!({"rule": "paper"}), 1, false),
    ] {
        let body = with(about(&url, words), fields);
        let reply = server.chat(&body).json();
        let wanted = apart.chat(&body).json();
        assert_eq!(reply["choices"], wanted["choices"], "{body}");
        assert_eq!(reply["hired"]["visual"], wanted["hired"]["visual"], "{body}");
        assert_eq!(wanted["hired"]["cache"], json!({"images": 0, "tokens": 0}));
        let cache = &reply["hired"]["cache"];
        assert_eq!((&cache["images"], cache["tokens"] != 0), (&json!(images), is_cut), "{body}");
        assert_eq!(reply["usage"]["prompt_tokens_details"]["cached_tokens"], cache["tokens"]);
        assert_ne!(reply["system_fingerprint"], wanted["system_fingerprint"]);
    }
    let numbers = ["hired_image_cache_queries_total", "hired_image_cache_hits_total"];
    assert_eq!(numbers.map(|name| server.metric(name)), [6.0, 3.0]);
    assert_eq!(numbers.map(|name| apart.metric(name)), [0.0, 0.0]);
    assert!(server.metric("hired_prefix_cache_hits_total") > 0.0);
    assert!(server.metric("hired_image_cache_bytes") > 0.0);
    let [free, all, kept] = ["hired_kv_pages_free", "hired_kv_pages", "hired_kv_pages_kept"]
        .map(|name| server.metric(name));
    assert!(free == all && kept > 0.0, "{free} {all} {kept}");
}

/// Turns, a system message and several images are what the program makes of the same messages.
#[test]
fn conversations() {
    let server = Server::start(&demo(), "");
    let (first, second) = (picture("grid-2x2.png"), picture("grid-1x2.png"));
    let image = |url: &str| json!({"type": "image_url", "image_url": {"url": url}});
    let text = |words: &str| json!({"type": "text", "text": words});
    for (images, messages) in [
        (
            1,
            json!([
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": [text("Look:"), image(&first)]},
                {"role": "assistant", "content": "I do."},
                {"role": "user", "content": [text(SIGN)]},
            ]),
        ),
        (2, json!([{"role": "user", "content": [image(&first), image(&second), text(SIGN)]}])),
        (
            2,
            json!([
                {"role": "user", "content": [image(&second), text(SIGN)]},
                {"role": "assistant", "content": "18"},
                {"role": "user", "content": [text("And here?"), image(&first)]},
            ]),
        ),
    ] {
        let file =
            std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("serve-conversation.json");
        std::fs::write(&file, messages.to_string()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_hired"));
        command
            .args(["run", "--json", "-q", "--device", "cpu", "--literal", "-n", "8", "-m"])
            .arg(demo());
        let output = command.arg("--messages").arg(&file).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let own: Value = serde_json::from_slice(&output.stdout).unwrap();
        let body = json!({"messages": messages, "max_tokens": 8, "overlay": true});
        let reply = server.chat(&body);
        assert_eq!(reply.status, 200, "{}", reply.body);
        let value = reply.json();
        assert_eq!(value["choices"][0]["message"]["content"], own["text"]);
        assert_eq!(value["usage"]["prompt_tokens"], own["prompt_tokens"]);
        let kept: Vec<u64> = if images == 1 {
            assert!(value["hired"].get("visuals").is_none());
            vec![value["hired"]["visual"]["kept"].as_u64().unwrap()]
        } else {
            assert_eq!(value["hired"]["overlays"].as_array().unwrap().len(), images);
            let visuals = value["hired"]["visuals"].as_array().unwrap();
            visuals.iter().map(|visual| visual["kept"].as_u64().unwrap()).collect()
        };
        assert_eq!(kept.len(), images);
        assert_eq!(
            value["usage"]["prompt_tokens_details"]["image_tokens"],
            kept.iter().sum::<u64>()
        );
    }
    let two = json!([{"role": "user", "content": [image(&first), image(&second), text(SIGN)]}]);
    let value = server.chat(&json!({"messages": two, "max_tokens": 2, "budget_total": 50})).json();
    assert_eq!(value["usage"]["prompt_tokens_details"]["image_tokens"], 50);
    assert_eq!(value["hired"]["budget"], "50");
}
