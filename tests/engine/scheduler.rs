//! An engine that many clients use at once.

use super::load::{Client, many_at_once};
use super::{fixture, go, load, question};
use hired::engine::{
    Device, EngineOptions, FinishReason, Image, Request, Scheduler, SchedulerOptions, SubmitError,
    Update,
};
use hired::select::{Method, Selection};
use hired::{Engine, Error};
use std::sync::mpsc::channel;

fn start(engine: Engine) -> Scheduler {
    Scheduler::start(engine, SchedulerOptions::default())
}

#[test]
fn clients_get_the_answers_that_they_would_get_alone() {
    let mut engine = load("next-hub");
    let requests: Vec<Request> = (0..5)
        .map(|i| {
            let request = question().with_max_new_tokens(3 + i);
            if i % 2 == 0 { request } else { request.with_image(None::<Image>) }
        })
        .collect();
    let alone: Vec<_> =
        requests.iter().map(|request| engine.generate(request, go).unwrap()).collect();
    let scheduler = start(engine);
    let clients: Vec<_> =
        requests.into_iter().map(|request| Client::submit(&scheduler, request).unwrap()).collect();
    for (client, alone) in clients.into_iter().zip(&alone) {
        let answer = client.outcome().unwrap();
        assert_eq!(
            (&answer.token_ids, &answer.text, &answer.visual),
            (&alone.token_ids, &alone.text, &alone.visual)
        );
    }
    let now = scheduler.statistics();
    let tokens: usize = alone.iter().map(|answer| answer.token_ids.len()).sum();
    assert_eq!((now.accepted, now.finished, now.new_tokens), (5, 5, tokens as u64));
    assert_eq!((now.waiting, now.running, now.failed, now.cancelled), (0, 0, 0, 0));
    assert!(now.pages > 0 && now.pages_free == now.pages, "{now:?}");
}

#[test]
fn what_can_never_be_answered_is_refused_when_it_is_submitted() {
    let scheduler = start(load("next-hub"));
    let submit = |request| Client::submit(&scheduler, request).err().unwrap();
    let broken = question().with_image(Image::encoded("broken.png", b"no picture".as_slice()));
    assert!(matches!(
        submit(broken),
        SubmitError::Refused(Error::Image { name, .. }) if name == "broken.png"
    ));
    let long = question().with_max_new_tokens(1 << 40);
    assert!(matches!(submit(long), SubmitError::Refused(Error::Context { .. })));
    assert_eq!(scheduler.statistics().refused, 2);
}

#[test]
fn a_full_queue_refuses_and_cancelled_requests_leave_it() {
    let options = SchedulerOptions::default().with_max_waiting(2).with_max_running(1);
    let scheduler = Scheduler::start(load("next-hub"), options);
    let endless = question().with_max_new_tokens(3500).with_ignore_eos(true);
    let running = Client::submit(&scheduler, endless.clone()).unwrap();
    assert!(matches!(running.next(), Update::Started));
    let first = Client::submit(&scheduler, question()).unwrap();
    let second = Client::submit(&scheduler, question()).unwrap();
    let full = Client::submit(&scheduler, question()).err().unwrap();
    assert!(matches!(full, SubmitError::Full { waiting: 2, .. }), "{full}");
    first.ticket.cancel();
    assert!(matches!(first.outcome(), Err(Error::Cancelled)));
    let third = Client::submit(&scheduler, endless).unwrap();
    // What was told of the running one so far are tokens of its answer.
    running.ticket.cancel();
    match running.outcome() {
        Ok(answer) => assert_eq!(answer.finish_reason, FinishReason::Cancelled),
        Err(error) => assert!(matches!(error, Error::Cancelled), "{error}"),
    }
    assert!(!second.outcome().unwrap().token_ids.is_empty());
    // Whoever drops the ticket wants no answer, unless it said so.
    let (sender, updates) = channel();
    let heard = sender.clone();
    let detached = scheduler.submit(question(), move |update| drop(heard.send(update))).unwrap();
    detached.detach();
    drop(sender);
    drop(third.ticket);
    assert!(matches!(updates.iter().last(), Some(Update::Finished { .. })));
    let now = scheduler.statistics();
    assert_eq!((now.cancelled, now.finished, now.refused), (3, 2, 1), "{now:?}");
}

#[test]
fn draining_answers_what_was_accepted_and_stopping_cancels_it() {
    let scheduler = start(load("next-hub"));
    let clients: Vec<_> = (0..3).map(|_| Client::submit(&scheduler, question()).unwrap()).collect();
    scheduler.drain();
    let closed = Client::submit(&scheduler, question()).err().unwrap();
    assert!(matches!(closed, SubmitError::Stopping), "{closed}");
    assert!(clients.into_iter().all(|client| client.outcome().is_ok()));

    let scheduler = start(load("next-hub"));
    let endless = question().with_max_new_tokens(400).with_ignore_eos(true);
    let clients: Vec<_> =
        (0..3).map(|_| Client::submit(&scheduler, endless.clone()).unwrap()).collect();
    scheduler.clone().stop();
    for client in clients {
        let stopped = client.outcome();
        let cancelled = match &stopped {
            Ok(answer) => answer.finish_reason == FinishReason::Cancelled,
            Err(error) => matches!(error, Error::Cancelled),
        };
        assert!(cancelled, "{stopped:?}");
    }
    // The last handle ends the thread, and with it all that a client was told.
    let scheduler = start(load("next-hub"));
    let client = Client::submit(&scheduler, endless).unwrap();
    drop(scheduler);
    assert!(client.updates.iter().last().is_some());
}

#[test]
fn a_failure_of_one_request_leaves_the_next_its_answer() {
    let folder = super::model_copy("next-hub");
    super::edit_tensor(folder.path(), "multi_modal_projector.linear_1.bias", |x| x[0] = f32::NAN);
    let options = EngineOptions::default().with_device(Device::Cpu);
    let scheduler = start(Engine::load(folder.path(), options).unwrap());
    let words = Request::new("Hello").with_max_new_tokens(4);
    let broken = Client::submit(&scheduler, question()).unwrap();
    let next = Client::submit(&scheduler, words.clone()).unwrap();
    assert!(matches!(broken.outcome(), Err(Error::Numeric(_))));
    let mut engine = Engine::load(fixture("models/next-hub"), EngineOptions::default()).unwrap();
    assert_eq!(next.outcome().unwrap().token_ids, engine.generate(&words, go).unwrap().token_ids);
}

#[test]
fn requests_that_come_at_random_get_the_tokens_that_they_get_alone() {
    // A cache in which about three of them have room, one large enough for all; one by one, and prompts as a whole.
    for (seed, kv_tokens, options) in [
        (1, Some(900), SchedulerOptions::default().with_max_stall(16)),
        (2, None, SchedulerOptions::default().with_max_stall(1)),
        (3, None, SchedulerOptions::default().with_max_stall(None).with_max_running(20)),
        (4, Some(900), SchedulerOptions::default().with_max_running(1)),
    ] {
        let model = fixture("models/next-hub");
        let engine = EngineOptions::default().with_device(Device::Cpu).with_kv_tokens(kv_tokens);
        let shared = Engine::load(model, engine).unwrap();
        many_at_once(&mut load("next-hub"), shared, options, 64, seed);
    }
}

/// Between the first token and the last of an answer others begin, and it goes on while they do.
#[test]
fn an_answer_goes_on_while_others_begin() {
    let order = |stall: Option<usize>| {
        let scheduler =
            Scheduler::start(load("next-hub"), SchedulerOptions::default().with_max_stall(stall));
        let (sender, told) = channel();
        let hear = |name: &'static str| {
            let sender = sender.clone();
            move |update| drop(sender.send((name, update)))
        };
        let long = Request::new("Hi").with_max_new_tokens(2000).with_ignore_eos(true);
        let first = scheduler.submit(long, hear("first")).unwrap();
        while !matches!(told.recv().unwrap(), (_, Update::Token { .. })) {}
        let image = question().with_selection(Selection::default().with_method(Method::Full));
        let second = scheduler.submit(image, hear("second")).unwrap();
        // Tokens of the first between two blocks of the second.
        let (mut between, mut blocks) = (0, 0);
        loop {
            match told.recv().unwrap() {
                ("second", Update::Progress { .. }) => blocks += 1,
                ("second", Update::Token { .. }) => break,
                ("first", Update::Token { .. }) if blocks > 0 => between += 1,
                _ => {}
            }
        }
        drop((first, second));
        (between, blocks)
    };
    let (none, blocks) = order(None);
    let (some, _) = order(Some(1));
    assert_eq!(none, 0);
    // One at every block but the last, after which comes the second's own token.
    assert!(some >= blocks - 1, "{some} of {blocks}");
}

#[test]
fn what_the_cache_has_no_place_for_waits_or_is_refused_with_the_numbers() {
    let options = EngineOptions::default().with_device(Device::Cpu).with_kv_tokens(320);
    let scheduler = start(Engine::load(fixture("models/next-hub"), options).unwrap());
    let asking = |new: usize| Request::new("Hi").with_max_new_tokens(new).with_ignore_eos(true);
    let refused = Client::submit(&scheduler, asking(400)).err().unwrap().to_string();
    assert!(refused.contains("320") && refused.contains("cache"), "{refused}");
    // The second has to wait, the third need not; but no more than a few may pass.
    let first = Client::submit(&scheduler, asking(250)).unwrap();
    assert!(matches!(first.next(), Update::Started));
    let second = Client::submit(&scheduler, asking(200)).unwrap();
    let third = Client::submit(&scheduler, asking(2)).unwrap();
    assert_eq!(third.outcome().unwrap().token_ids.len(), 2);
    assert!(second.updates.try_recv().is_err());
    first.ticket.cancel();
    assert_eq!(first.updates.iter().filter(|u| matches!(u, Update::Finished { .. })).count(), 1);
    assert_eq!(second.outcome().unwrap().token_ids.len(), 200);
}

/// Wherever a request is, cancelling it ends it at the next step, its pages come back, and another beside it goes on.
#[test]
fn a_request_can_be_cancelled_at_every_step() {
    let mut engine = load("next-hub");
    let other = Request::new("Hi").with_max_new_tokens(40).with_ignore_eos(true);
    let wanted = engine.generate(&other, go).unwrap().token_ids;
    let scheduler = start(engine);
    let mut cancelled = 0;
    for step in 0.. {
        let beside = Client::submit(&scheduler, other.clone()).unwrap();
        let (here, reached) = channel();
        let (go_on, may) = channel::<()>();
        let (sender, told) = channel();
        let mut left: usize = step;
        let request = question().with_max_new_tokens(4).with_ignore_eos(true);
        let hear = move |update| {
            drop(sender.send(update));
            if left == 0 {
                let _ = here.send(());
                let _ = may.recv();
            }
            left = left.wrapping_sub(1);
        };
        let ticket = scheduler.submit(request, hear).unwrap();
        // Without one there were fewer steps than that: all have been tried.
        let is_there = reached.recv().is_ok();
        ticket.cancel();
        drop(go_on);
        let updates: Vec<Update> = told.iter().collect();
        assert_eq!(beside.outcome().unwrap().token_ids, wanted, "beside one cancelled at {step}");
        let now = scheduler.statistics();
        assert_eq!((now.pages_free, now.running, now.waiting), (now.pages, 0, 0), "at {step}");
        if !is_there {
            break;
        }
        match updates.last().unwrap() {
            Update::Failed(Error::Cancelled) => cancelled += 1,
            Update::Finished { answer, .. } if answer.finish_reason == FinishReason::Cancelled => {
                cancelled += 1;
            }
            // The end itself was the step, or the one after it.
            Update::Finished { .. } => assert!(updates.len() <= step + 2),
            other => panic!("{step}: {other:?}"),
        }
        // The step that was being told of, the one under way, and the end.
        assert!(updates.len() <= step + 3, "{step}: {} updates more", updates.len() - step - 1);
    }
    assert!(cancelled >= 8, "{cancelled}");
}
