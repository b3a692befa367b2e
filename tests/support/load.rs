//! Clients of a scheduler: one that checks the events of its request, and many clients at once.

use hired::engine::{
    Answer, Engine, FinishReason, Image, Message, Request, Scheduler, SchedulerOptions, Statistics,
    SubmitError, Ticket, Update,
};
use hired::select::{Method, Rule, Selection};
use hired::{Error, Sampling};
use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// A client of one request.
pub struct Client {
    pub ticket: Ticket,
    pub updates: Receiver<Update>,
}

impl Client {
    pub fn submit(scheduler: &Scheduler, request: Request) -> Result<Self, SubmitError> {
        let (sender, updates) = channel();
        let ticket = scheduler.submit(request, move |update| drop(sender.send(update)))?;
        Ok(Self { ticket, updates })
    }

    pub fn next(&self) -> Update {
        self.updates.recv_timeout(Duration::from_secs(120)).expect("an update")
    }

    /// Waits for the outcome, and cancels the request after `tokens` tokens. Checks that the streamed text and tokens
    /// are those of the answer, and that no event follows it.
    pub fn outcome_until(self, tokens: usize) -> Result<Answer, Error> {
        let (mut ids, mut all, mut started) = (Vec::new(), String::new(), 0);
        if tokens == 0 {
            self.ticket.cancel();
        }
        loop {
            match self.next() {
                Update::Started => started += 1,
                Update::Token { id, text, .. } => {
                    assert!(started <= 1);
                    ids.push(id);
                    all += &text;
                    if ids.len() == tokens {
                        self.ticket.cancel();
                    }
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

    pub fn outcome(self) -> Result<Answer, Error> {
        self.outcome_until(usize::MAX)
    }
}

/// Pseudo-random numbers.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % limit as u64) as usize
    }
}

fn picture(random: &mut Random) -> Image {
    let [width, height] = [[90, 50], [40, 70], [12, 100], [60, 60]][random.below(4)];
    let tone = random.below(3);
    let pixels: Vec<u8> =
        (0..3 * width * height).map(|i| ((i * (tone + 3) / 7) % 251) as u8).collect();
    Image::rgb8(width, height, pixels)
}

/// A random request.
pub fn request(random: &mut Random) -> Request {
    let words =
        ["What?", "How many are there?", "a b c d e f g h", "Why is it so?"][random.below(4)];
    let request = match random.below(4) {
        0 => Request::new(words),
        1 | 2 => Request::new(words).with_image(picture(random)),
        _ => {
            let first = Message::user(words).with(picture(random));
            let second = Message::user("And now?").with(picture(random));
            Request::new(vec![first, Message::assistant("So."), second])
        }
    };
    let budget = ["20%", "7", "full", "40%"][random.below(4)].parse().unwrap();
    let selection = Selection::default().with_budget(budget);
    let selection = match random.below(6) {
        0 => selection.with_rule(Rule::Paper),
        1 => selection.with_method(Method::DivPrune),
        2 if request.images().len() < 2 => selection.with_method(Method::FastV),
        3 => selection.with_method(Method::VisionZip),
        _ => selection,
    };
    let sampling = match random.below(3) {
        0 => Sampling::default().with_temperature(0.9).with_seed(random.below(9) as u64),
        1 => Sampling::default().with_repetition_penalty(1.2),
        _ => Sampling::default(),
    };
    request
        .with_selection(selection)
        .with_sampling(sampling)
        .with_max_new_tokens(1 + random.below(20))
        .with_ignore_eos(random.below(2) == 0)
}

/// Sends many requests at random times to one engine, where some clients cancel. Each answer must have the tokens of
/// the request alone, and all pages must be free at the end.
pub fn many_at_once(
    alone: &mut Engine,
    shared: Engine,
    options: SchedulerOptions,
    count: usize,
    seed: u64,
) -> Statistics {
    let mut random = Random(seed);
    let scheduler = Scheduler::start(shared, options.with_max_waiting(count));
    let mut clients = Vec::new();
    for index in 0..count {
        let request = request(&mut random);
        let leaves = if random.below(4) == 0 { random.below(6) } else { usize::MAX };
        std::thread::sleep(Duration::from_millis(random.below(6) as u64));
        let client = Client::submit(&scheduler, request.clone()).unwrap();
        let client = std::thread::spawn(move || client.outcome_until(leaves));
        clients.push((index, request, leaves, client));
    }
    let mut whole = 0;
    for (index, request, leaves, client) in clients {
        let outcome = client.join().unwrap();
        let what = format!("request {index}, seed {seed}: {request:?}");
        let wanted = alone.generate(&request, |_| ControlFlow::Continue(())).unwrap();
        match outcome {
            Ok(answer) => {
                let got = answer.token_ids.len();
                let is_cut = answer.finish_reason == FinishReason::Cancelled;
                assert!(!is_cut || (leaves..usize::MAX).contains(&got), "{what}");
                assert!(is_cut || got == wanted.token_ids.len(), "{what}");
                assert_eq!(answer.token_ids, wanted.token_ids[..got], "{what}");
                assert_eq!(answer.visuals, wanted.visuals, "{what}");
                whole += usize::from(!is_cut);
            }
            Err(error) => {
                assert!(matches!(error, Error::Cancelled) && leaves == 0, "{what}: {error}")
            }
        }
    }
    assert!(whole > count / 2, "{whole} of {count}");
    let now = scheduler.statistics();
    assert_eq!((now.waiting, now.running, now.failed), (0, 0, 0), "{now:?}");
    assert_eq!(now.finished + now.cancelled, count as u64, "{now:?}");
    assert!(now.pages > 0 && now.pages_free == now.pages, "{now:?}");
    now
}
