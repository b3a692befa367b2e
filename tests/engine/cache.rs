//! What a scheduler keeps of requests for those that come later.

use super::load::{Client, many_at_once};
use super::{fixture, go, load, picture};
use hired::engine::{
    Answer, Device, Engine, EngineOptions, Message, Request, Scheduler, SchedulerOptions,
};
use hired::select::{Method, Rule, Selection};

fn keeping(kv_tokens: Option<usize>) -> Scheduler {
    let options = EngineOptions::default().with_device(Device::Cpu).with_kv_tokens(kv_tokens);
    let engine = Engine::load(fixture("models/next-hub"), options).unwrap();
    Scheduler::start(engine, SchedulerOptions::default().with_cache_memory(16 << 20))
}

fn ask(scheduler: &Scheduler, request: &Request) -> Answer {
    Client::submit(scheduler, request.clone()).unwrap().outcome().unwrap()
}

fn about(words: &str, selection: Selection) -> Request {
    let request = Request::new(words).with_image(picture(90, 50)).with_max_new_tokens(8);
    request.with_selection(selection).with_ignore_eos(true)
}

/// Another question about the same picture, and the same one again: the tokens of an engine that keeps nothing.
#[test]
fn a_hit_has_the_tokens_of_a_miss() {
    let mut alone = load("next-hub");
    let scheduler = keeping(None);
    let default = Selection::default();
    let mut looked = (0, 0);
    for (selection, is_cut) in [
        // Has a cache of its own kind, which takes what was kept with it when it goes.
        (default.clone().with_method(Method::FastV), false),
        (default.clone().with_rule(Rule::Paper), false),
        (default.clone().with_budget("full".parse().unwrap()), true),
        (default.clone().with_method(Method::VisionZip), true),
        (default, true),
    ] {
        for (words, known) in [("What?", 0), ("Who, and how many of them?", 1), ("What?", 1)] {
            let request = about(words, selection.clone());
            let wanted = alone.generate(&request, go).unwrap();
            let answer = ask(&scheduler, &request);
            let what = format!("{words} {selection:?}");
            assert_eq!(answer.token_ids, wanted.token_ids, "{what}");
            assert_eq!(answer.visuals, wanted.visuals, "{what}");
            assert_eq!(answer.cached_images, known, "{what}");
            assert_eq!(answer.cached_tokens > 0, is_cut && known > 0, "{what}");
            assert!(answer.cached_tokens < answer.prompt_tokens);
            assert!(known == 0 || answer.timings.vision == 0.0, "{what}: it was encoded again");
            looked = (looked.0 + 1, looked.1 + known as u64);
        }
    }
    let now = scheduler.statistics();
    assert_eq!((now.images, now.images_known), looked);
    assert!(now.rows_known > 0 && now.rows_known < now.rows, "{now:?}");
    assert!(now.image_bytes > 0 && now.pages_kept > 0 && now.pages_free == now.pages, "{now:?}");
}

#[test]
fn whoever_wants_nothing_of_the_caches_takes_and_leaves_nothing() {
    let scheduler = keeping(None);
    let request = about("What?", Selection::default());
    let aside = request.clone().with_cache(false);
    let found = |request| {
        let answer = ask(&scheduler, request);
        (answer.cached_images, answer.cached_tokens > 0)
    };
    assert_eq!(found(&aside), (0, false));
    assert_eq!(found(&request), (0, false), "it left something");
    assert_eq!(found(&aside), (0, false), "it took something");
    assert_eq!(found(&request), (1, true));
    assert_eq!(scheduler.statistics().images, 2);
    // Intermediate results are there in full.
    let stages = ask(&scheduler, &request.with_keep_stages(true)).stages.unwrap();
    assert!(stages.cls_attention_final.unwrap().iter().any(|score| score.is_finite()));
}

/// The cache of keys and values is as large as one request: what is kept makes room before anybody waits.
#[test]
fn kept_pages_are_given_back_before_a_request_waits() {
    let mut alone = load("next-hub");
    let scheduler = keeping(Some(480));
    let asking = |width, new| {
        let request = Request::new("What?").with_image(picture(width, 50)).with_ignore_eos(true);
        request.with_max_new_tokens(new)
    };
    for (round, width) in [90, 40, 90, 70, 40, 90].into_iter().enumerate() {
        let request = asking(width, if round % 2 == 0 { 330 } else { 5 });
        let answer = ask(&scheduler, &request);
        assert_eq!(answer.token_ids, alone.generate(&request, go).unwrap().token_ids, "{round}");
        let now = scheduler.statistics();
        assert_eq!((now.pages_free, now.pages), (30, 30), "{now:?}");
    }
    assert!(scheduler.statistics().rows_known > 0);
}

#[test]
fn the_next_turn_begins_where_the_last_one_did() {
    let mut alone = load("next-hub");
    let scheduler = keeping(None);
    let mut messages = vec![Message::user("What?").with(picture(90, 50))];
    for turn in 0..4 {
        let request = Request::new(messages.clone()).with_max_new_tokens(6);
        let answer = ask(&scheduler, &request);
        assert_eq!(answer.token_ids, alone.generate(&request, go).unwrap().token_ids, "{turn}");
        assert_eq!((answer.cached_images, answer.cached_tokens > 0), (turn.min(1), turn > 0));
        messages.push(Message::assistant(answer.text.trim()));
        messages.push(Message::user("And what else?"));
    }
}

#[test]
fn requests_that_come_at_random_get_the_tokens_that_they_get_alone() {
    // A small cache of pages, and one that loses images all the time.
    for (seed, kv_tokens, memory) in [(7, Some(900), 16 << 20), (8, None, 40 << 10)] {
        let options = EngineOptions::default().with_device(Device::Cpu).with_kv_tokens(kv_tokens);
        let shared = Engine::load(fixture("models/next-hub"), options).unwrap();
        let options = SchedulerOptions::default().with_max_stall(16).with_cache_memory(memory);
        let now = many_at_once(&mut load("next-hub"), shared, options, 64, seed);
        assert!(now.images_known > 0, "{now:?}");
        assert_eq!(now.rows_known > 0, memory > 1 << 20, "{now:?}");
        assert!(now.images_known < now.images && now.image_bytes <= memory, "{now:?}");
    }
}
