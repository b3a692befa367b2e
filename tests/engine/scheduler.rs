//! An engine that many clients use at once.

use super::{fixture, go, load, question};
use hired::engine::{
    Answer, FinishReason, Image, Request, Scheduler, SchedulerOptions, SubmitError, Ticket, Update,
};
use hired::{Engine, Error};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// What became of one request.
struct Client {
    ticket: Ticket,
    updates: Receiver<Update>,
}

impl Client {
    fn submit(scheduler: &Scheduler, request: Request) -> Result<Self, SubmitError> {
        let (sender, updates) = channel();
        let ticket = scheduler.submit(request, move |update| drop(sender.send(update)))?;
        Ok(Self { ticket, updates })
    }

    fn next(&self) -> Update {
        self.updates.recv_timeout(Duration::from_secs(60)).expect("an update")
    }

    /// The outcome; the text and tokens that were told on the way are those of the answer, and nothing comes after it.
    fn outcome(self) -> Result<Answer, Error> {
        let (mut ids, mut all) = (Vec::new(), String::new());
        loop {
            match self.next() {
                Update::Token { id, text, .. } => {
                    ids.push(id);
                    all += &text;
                }
                Update::Finished { text, answer, .. } => {
                    assert_eq!((ids, all + &text), (answer.token_ids.clone(), answer.text.clone()));
                    assert!(self.updates.recv_timeout(Duration::from_secs(60)).is_err());
                    return Ok(*answer);
                }
                Update::Failed(error) => {
                    assert!(self.updates.recv_timeout(Duration::from_secs(60)).is_err());
                    return Err(error);
                }
                _ => {}
            }
        }
    }
}

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
    assert!(matches!(submit(long), SubmitError::Refused(Error::Capacity(_))));
    assert_eq!(scheduler.statistics().refused, 2);
}

#[test]
fn a_full_queue_refuses_and_cancelled_requests_leave_it() {
    let options = SchedulerOptions::default().with_max_waiting(2).with_max_running(1);
    let scheduler = Scheduler::start(load("next-hub"), options);
    let endless = question().with_max_new_tokens(400).with_ignore_eos(true);
    let running = Client::submit(&scheduler, endless.clone()).unwrap();
    assert!(matches!(running.next(), Update::Started));
    let first = Client::submit(&scheduler, question()).unwrap();
    let second = Client::submit(&scheduler, question()).unwrap();
    let full = Client::submit(&scheduler, question()).err().unwrap();
    assert!(matches!(full, SubmitError::Full { waiting: 2, .. }), "{full}");
    first.ticket.cancel();
    assert!(matches!(first.outcome(), Err(Error::Cancelled)));
    let third = Client::submit(&scheduler, question()).unwrap();
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
    let options = hired::EngineOptions::default().with_device(hired::Device::Cpu);
    let scheduler = start(Engine::load(folder.path(), options).unwrap());
    let words = Request::new("Hello").with_max_new_tokens(4);
    let broken = Client::submit(&scheduler, question()).unwrap();
    let next = Client::submit(&scheduler, words.clone()).unwrap();
    assert!(matches!(broken.outcome(), Err(Error::Numeric(_))));
    let mut engine =
        Engine::load(fixture("models/next-hub"), hired::EngineOptions::default()).unwrap();
    assert_eq!(next.outcome().unwrap().token_ids, engine.generate(&words, go).unwrap().token_ids);
}
