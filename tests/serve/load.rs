//! Many clients at once, some of whom leave: nothing is lost, nobody hears another's answer.

use super::{Request, Server, about, client, demo, picture, with, within};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

const CLIENTS: usize = 64;
const REQUESTS: usize = 320;

#[test]
fn sixty_four_clients() {
    let server = Server::start(&demo(), "--max-waiting 1000 --max-connections 500");
    let pictures: Vec<String> =
        ["grid-2x2.png", "grid-1x2.png", "grid-1x3.png"].map(picture).into();
    let questions = [
        "What number is on the yellow sign?",
        "Which colour has number 38?",
        "What shape is the white sign?",
    ];
    let budgets = ["20%", "10%", "full"];
    let body = |kind: usize| {
        let fields = json!({"budget": budgets[kind % 3], "max_tokens": 1 + kind % 5});
        with(about(&pictures[kind / 3 % 3], questions[kind / 9 % 3]), fields)
    };
    let text =
        |value: &Value| value["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
    // What each gets alone.
    let alone: BTreeMap<usize, String> =
        (0..45).map(|kind| (kind, text(&server.chat(&body(kind)).json()))).collect();
    let before = (server.metric("hired_kv_pages_free"), server.metric("hired_kv_pages"));
    let (next, left, answered) = (AtomicUsize::new(0), AtomicUsize::new(0), Mutex::new(0));
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Relaxed);
                    if number >= REQUESTS {
                        break;
                    }
                    // The same for every run, and in no order.
                    let chance = (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
                    let kind = chance as usize % 45;
                    let stream = chance % 7 < 4;
                    let body = with(body(kind), json!({"stream": stream})).to_string();
                    let connection =
                        Request::post("/v1/chat/completions", &body).open(&server.address);
                    if chance.is_multiple_of(5) {
                        std::thread::sleep(Duration::from_millis(chance % 40));
                        left.fetch_add(1, Relaxed);
                        continue;
                    }
                    let reply = client::Reply::read(connection);
                    assert_eq!(reply.status, 200, "{}", reply.body);
                    let heard = if stream {
                        let mut events = reply.events();
                        assert_eq!(events.pop(), Some("[DONE]"));
                        let delta = |event: &&str| {
                            let chunk: Value = serde_json::from_str(event).unwrap();
                            chunk["choices"][0]["delta"]["content"]
                                .as_str()
                                .unwrap_or_default()
                                .to_owned()
                        };
                        events.iter().map(delta).collect()
                    } else {
                        text(&reply.json())
                    };
                    assert_eq!(heard, alone[&kind], "{kind}");
                    *answered.lock().unwrap() += 1;
                }
            });
        }
    });
    let (left, answered) = (left.load(Relaxed), *answered.lock().unwrap());
    assert!(left > REQUESTS / 10 && left + answered == REQUESTS, "{left} {answered}");
    within(30, || {
        server.metric("hired_requests_running") + server.metric("hired_requests_waiting") == 0.0
    });
    // What the pages hold for the next requests is free for them.
    let after = (server.metric("hired_kv_pages_free"), server.metric("hired_kv_pages"));
    assert_eq!(after.1 - after.0, before.1 - before.0, "pages in use");
    let finished = server.get("/metrics").body;
    let finished = finished.lines().filter(|line| line.starts_with("hired_request_success_total{"));
    let finished: f64 =
        finished.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum();
    assert!(finished as usize >= 45 + answered, "{finished}");
    let (status, log) = server.stop();
    assert_eq!(status, Some(0));
    let lines = log.lines().filter(|line| line.contains("path=\"/v1/chat/completions\"")).count();
    assert_eq!(lines, 45 + REQUESTS, "one line a request");
}
