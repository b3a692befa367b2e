//! The same requests under many selections, the picture seen once.

use super::{fixture, go, load, picture};
use hired::Error;
use hired::engine::{Answer, Device, Engine, EngineOptions, Request};
use hired::select::{Heads, Method, Newlines, Rule, Selection};
use std::ops::ControlFlow;

fn on() -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// Scores of content and of importance, of which those nobody asked for are NaN.
fn score_bits(answer: &Answer) -> [Option<Vec<u32>>; 2] {
    let stages = answer.stages.as_ref().unwrap();
    [&stages.cls_attention_init, &stages.cls_attention_final].map(|scores| {
        scores.as_ref().map(|scores| scores.iter().map(|score| score.to_bits()).collect())
    })
}

#[test]
fn a_sweep_gives_what_every_selection_gives_alone() {
    let mut engine = load("next-hub");
    // More than are decoded together.
    let requests: Vec<Request> = (0..9)
        .map(|i| {
            Request::new(format!("Question {i}?"))
                .with_max_new_tokens(3 + i % 5)
                .with_keep_stages(true)
        })
        .collect();
    let at = |budget: &str| Selection::default().with_budget(budget.parse().unwrap());
    let selections = [
        at("full"),
        at("20%"),
        at("40%").with_init_layer(1).with_final_layer(-1),
        at("30%").with_rule(Rule::Repo),
        at("10%").with_method(Method::Random).with_seed(4),
        at("7").with_newlines(Newlines::All),
        at("20%").with_heads(Heads::Max).with_rule(Rule::Equal),
        at("20%").with_method(Method::DivPrune),
        at("5").with_method(Method::DivPrune),
        at("40%").with_method(Method::PruMergePlus),
        at("30%").with_method(Method::VisionZip).with_newlines(Newlines::All),
        at("10%").with_method(Method::Scope),
        at("20%").with_method(Method::FastV),
    ];
    let swept = engine.sweep(&picture(90, 50), &requests, &selections, on).unwrap();
    assert_eq!(swept.len(), selections.len());
    let memory = swept[0][0].memory;
    assert!(memory.peak > 0 && memory.peak <= memory.predicted_peak, "{memory:?}");
    for (selection, answers) in selections.iter().zip(&swept) {
        assert_eq!(answers.len(), requests.len());
        for (request, answer) in requests.iter().zip(answers) {
            let alone = request.clone().with_selection(selection.clone());
            let alone = engine.generate(&alone.with_image(picture(90, 50)), go).unwrap();
            assert_eq!(answer.token_ids, alone.token_ids, "{selection:?}");
            assert_eq!(answer.visual, alone.visual);
            assert_eq!(answer.prompt_tokens, alone.prompt_tokens);
            // Bit by bit, so that near ties go the same way.
            assert_eq!(score_bits(answer), score_bits(&alone), "{selection:?}");
        }
    }
    assert!(
        engine.sweep(&picture(90, 50), &[], &selections, on).unwrap().iter().all(Vec::is_empty)
    );
    assert!(engine.sweep(&picture(90, 50), &requests, &[], on).unwrap().is_empty());
    let impossible = engine.sweep(&picture(90, 50), &requests, &[at("20%"), at("0.001%")], on);
    assert!(matches!(impossible, Err(Error::Request(_))), "{impossible:?}");
    let again = engine.sweep(&picture(90, 50), &requests[..1], &selections[1..2], on).unwrap();
    assert_eq!(again[0][0].token_ids, swept[1][0].token_ids);
}

#[test]
fn a_sweep_in_a_small_cache_takes_smaller_batches() {
    let requests: Vec<Request> =
        (0..5).map(|i| Request::new(format!("Question {i}?")).with_max_new_tokens(4)).collect();
    let selections = [Selection::default().with_budget("full".parse().unwrap())];
    let mut engine = load("next-hub");
    let wanted = engine.sweep(&picture(90, 50), &requests, &selections, on).unwrap();
    let longest = wanted[0].iter().map(|a| a.prompt_tokens + 3).max().unwrap();
    let with_cache = |tokens| {
        let options = EngineOptions::default().with_device(Device::Cpu).with_kv_tokens(tokens);
        Engine::load(fixture("models/next-hub"), options).unwrap()
    };
    // Room for two at a time, for one, for none.
    for room in [2 * longest.next_multiple_of(16), longest] {
        let swept = with_cache(room).sweep(&picture(90, 50), &requests, &selections, on).unwrap();
        for (got, wanted) in swept[0].iter().zip(&wanted[0]) {
            assert_eq!(got.token_ids, wanted.token_ids);
        }
    }
    let refused = with_cache(longest - 16).sweep(&picture(90, 50), &requests, &selections, on);
    assert!(matches!(refused, Err(Error::Capacity(_))), "{refused:?}");
}

#[test]
fn a_sweep_stops_where_it_is_told_to() {
    let requests = [Request::new("What?").with_max_new_tokens(4)];
    let selections = [Selection::default(), Selection::default().with_seed(1)];
    let mut engine = load("next-hub");
    let mut asked = 0usize;
    let whole = engine.sweep(&picture(90, 50), &requests, &selections, || {
        asked += 1;
        ControlFlow::Continue(())
    });
    let whole = whole.unwrap();
    for last in [1, asked / 2, asked] {
        let mut left = last;
        let stopped = engine.sweep(&picture(90, 50), &requests, &selections, || {
            left = left.saturating_sub(1);
            if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert!(matches!(stopped, Err(Error::Cancelled)), "{last} of {asked}: {stopped:?}");
    }
    let again = engine.sweep(&picture(90, 50), &requests, &selections, on).unwrap();
    assert_eq!(again[1][0].token_ids, whole[1][0].token_ids);
}
