//! Requests of a batch that fail and stop by themselves.

use super::{go, load, question};
use hired::Error;
use hired::engine::{Event, FinishReason, Image, Request};
use std::ops::ControlFlow;

#[test]
fn requests_that_are_kept_apart_fail_and_stop_alone() {
    let mut engine = load("next-hub");
    let good = question().with_max_new_tokens(6);
    let alone = engine.generate(&good, go).unwrap();
    assert_eq!(alone.token_ids.len(), 6);
    let broken = good.clone().with_image(Image::encoded("broken.png", b"no picture".as_slice()));
    let long = good.clone().with_max_new_tokens(1 << 40);
    let requests =
        [broken.clone(), good.clone(), good.clone(), long, good.clone(), Request::new("Hello")];
    // Request 2 is stopped at its first block, request 4 at its second token.
    let (mut seen, mut finished) = (vec![0; requests.len()], Vec::new());
    let answers = engine
        .generate_each(&requests, |event| match event {
            Event::Progress { request: 2, .. } => ControlFlow::Break(()),
            Event::Token { request, .. } => {
                seen[request] += 1;
                if request == 4 && seen[4] == 2 {
                    return ControlFlow::Break(());
                }
                ControlFlow::Continue(())
            }
            Event::Finished { request, reason, .. } => {
                finished.push((request, reason));
                ControlFlow::Continue(())
            }
            _ => ControlFlow::Continue(()),
        })
        .unwrap();
    assert!(matches!(&answers[0], Err(Error::Image { name, .. }) if name == "broken.png"));
    assert!(matches!(&answers[2], Err(Error::Cancelled)));
    assert!(matches!(&answers[3], Err(Error::Context { .. })));
    assert_eq!(answers[1].as_ref().unwrap().token_ids, alone.token_ids);
    let stopped = answers[4].as_ref().unwrap();
    assert_eq!(stopped.token_ids, alone.token_ids[..2]);
    assert_eq!(stopped.finish_reason, FinishReason::Cancelled);
    let words = answers[5].as_ref().unwrap();
    assert_eq!(words.token_ids, engine.generate(&requests[5], go).unwrap().token_ids);
    assert_eq!(seen, [0, 6, 0, 0, 2, words.token_ids.len()]);
    finished.sort_by_key(|(request, _)| *request);
    let reasons = [alone.finish_reason, FinishReason::Cancelled, words.finish_reason];
    assert_eq!(finished, [1, 4, 5].into_iter().zip(reasons).collect::<Vec<_>>());

    let none = engine.generate_each(&[broken.clone(), broken.clone()], go).unwrap();
    assert!(none.iter().all(|answer| matches!(answer, Err(Error::Image { .. }))));
    assert!(engine.generate_each(&[], go).unwrap().is_empty());
    // What is not kept apart fails together, and nothing is left behind.
    assert!(engine.generate_batch(&[good.clone(), broken], go).is_err());
    assert_eq!(engine.generate(&good, go).unwrap().token_ids, alone.token_ids);
}
