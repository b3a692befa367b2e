use super::*;
use crate::checkpoint::synth::{Preset, Synthetic};
use crate::engine::origin::Origin;
use crate::engine::prepare::Preparer;
use crate::engine::request::{EngineOptions, Image, Request};
use crate::engine::runner::{Runner, quiet};
use crate::engine::{Message, Prompt};
use crate::format::Dtype;
use crate::kv::{PAGE, Room};
use crate::model::vit::Layers;
use crate::ops::MemoryOps;
use crate::ops::cpu::Cpu;
use crate::select::{Method, Rule, Selection};

fn picture(tone: u8) -> Image {
    let pixels: Vec<u8> = (0..3 * 90 * 50).map(|i| (i % 251) as u8 ^ tone).collect();
    Image::rgb8(90, 50, pixels)
}

fn asking(words: &str, tone: u8, selection: &Selection) -> Request {
    Request::new(words).with_image(picture(tone)).with_selection(selection.clone())
}

/// A runner with caches, as in a session.
struct Kept {
    preparer: Preparer,
    runner: Runner<Cpu>,
    caches: Caches,
}

impl Kept {
    fn new() -> Self {
        let synthetic = Synthetic { preset: Preset::Tiny, seed: 3, quantization: None };
        let origin = Origin::synthetic(synthetic).unwrap();
        let config = origin.config.clone();
        let (preparer, weights) = origin.into_parts(&EngineOptions::default()).unwrap();
        let mut runner = Runner::load(&config, Cpu::new(Dtype::F32), &weights).unwrap();
        let all = Layers { last: Some(config.vision.layers - 1), ..Layers::default() };
        runner.model.require(all, &mut runner.ops, &weights).unwrap();
        runner.reserve(&config, &Room::whole(600)).unwrap();
        runner.keep_pages(500);
        let caches = Caches { pictures: Pictures::new(1 << 20), ..Caches::default() };
        Self { preparer, runner, caches }
    }

    /// Returns the logits of the prompt's last row and the numbers of images and rows found, and stores the new
    /// results.
    fn ask(&mut self, request: &Request) -> (Vec<u32>, usize, usize) {
        let prepared = self.preparer.prepare(request).unwrap();
        let Self { preparer, runner, caches } = self;
        let sights = sights(&prepared);
        let pictures: Vec<_> = sights.iter().map(|sight| caches.pictures.find(sight)).collect();
        let beginning = caches.beginnings.find(&prepared, &sights, &runner.pools);
        let found = Found { pictures, beginning };
        let mut tables = runner.pools.tables();
        if let Some((name, _)) = found.beginning {
            assert!(runner.pools.reuse(name, &mut tables));
        }
        let norm = &preparer.normalization;
        let encoded: Vec<_> = (prepared.images.iter().enumerate())
            .map(|(index, image)| {
                runner.encode_to_keep(image, norm, found.picture(index), &mut quiet).unwrap()
            })
            .collect();
        let cuts = cuts(&prepared);
        assert!(cuts.iter().all(|cut| cut.is_multiple_of(PAGE)));
        let out = runner.prefill(&prepared, &encoded, &mut tables, &cuts, &mut quiet).unwrap();
        for (sight, encoded) in sights.iter().zip(&encoded) {
            let rows = runner.ops.save(&encoded.features).unwrap();
            caches.pictures.keep(Picture::new(sight.clone(), rows, encoded_kept(runner, encoded)));
        }
        let pools = &mut runner.pools;
        caches.beginnings.keep(&prepared, &sights, found.rows(), &tables, pools);
        pools.release(tables);
        let logits = runner.ops.download(&out.logits).unwrap();
        (logits.iter().map(|x| x.to_bits()).collect(), found.known(), found.rows())
    }
}

fn encoded_kept(runner: &mut Runner<Cpu>, encoded: &Encoded<Cpu>) -> crate::select::Kept {
    use crate::ops::SelectionOps;
    runner.ops.kept(&encoded.kept).unwrap()
}

#[test]
fn what_is_found_leaves_every_bit_as_it_is() {
    let default = Selection::default;
    for (selection, cut) in [
        (default(), true),
        (default().with_method(Method::Full), true),
        (default().with_method(Method::VisionZip), true),
        (default().with_rule(Rule::Paper), false),
        (default().with_method(Method::FastV), false),
    ] {
        let mut kept = Kept::new();
        let first = asking("What is it?", 0, &selection);
        let second = asking("How many are there, and why?", 0, &selection);
        let (alone, images, rows) = Kept::new().ask(&second);
        assert_eq!((images, rows), (0, 0));
        kept.ask(&first);
        let (logits, images, rows) = kept.ask(&second);
        assert_eq!((images, rows > 0), (1, cut), "{selection:?}");
        assert!(logits == alone, "{selection:?}");
        // The same image hits the cache; a different image must not.
        assert!(kept.ask(&second).0 == alone, "{selection:?}");
        let other = asking("How many are there, and why?", 9, &selection);
        let (logits, images, rows) = kept.ask(&other);
        assert_eq!((images, rows), (0, 0), "{selection:?}");
        assert!(logits != alone && logits == Kept::new().ask(&other).0, "{selection:?}");
    }
}

#[test]
fn a_conversation_goes_on_from_what_is_there() {
    let turns = |count: usize| -> Request {
        let words = "Tell me everything about it, line by line. ".repeat(30);
        let mut messages = vec![Message::user("What is it?").with(picture(0))];
        for turn in 1..count {
            messages.push(Message::assistant(words.as_str()));
            let next = Message::user("And this?");
            messages.push(if turn == 3 { next.with(picture(7)) } else { next });
        }
        Request::new(Prompt::Messages(messages))
    };
    let mut kept = Kept::new();
    let mut found = Vec::new();
    for (count, known) in [(1, 0), (2, 1), (3, 1), (4, 1), (5, 2)] {
        let request = turns(count);
        let (logits, images, rows) = kept.ask(&request);
        assert_eq!(images, known, "{count} turns");
        assert!(logits == Kept::new().ask(&request).0, "{count} turns, {rows} rows found");
        found.push(rows);
    }
    // In turn: the first image; the cut after it; the first image only, because a different one follows the text; the
    // new cut.
    assert_eq!(found[0], 0);
    assert!(found[1] > 0 && found[2] > 512 && found[3] == found[1] && found[4] > 1024, "{found:?}");
}

#[test]
fn images_beyond_the_bound_go_and_selections_are_kept_apart() {
    let mut kept = Kept::new();
    let two = Selection::default().with_budget("40%".parse().unwrap());
    let ask = |kept: &mut Kept, tone, selection: &Selection| {
        kept.ask(&asking("What?", tone, selection)).1
    };
    let default = Selection::default();
    assert_eq!([0, 0].map(|tone| ask(&mut kept, tone, &default)), [0, 1]);
    assert_eq!(ask(&mut kept, 0, &two), 0, "another budget");
    assert_eq!(ask(&mut kept, 0, &default.clone().with_rule(Rule::Paper)), 0, "another rule");
    // A limit that holds two of the images.
    let one = {
        kept.caches.pictures = Pictures::new(1 << 20);
        ask(&mut kept, 0, &default);
        kept.caches.pictures.bytes()
    };
    kept.caches.pictures = Pictures::new(2 * one + one / 2);
    let seen = [1, 2, 1, 3, 1, 2].map(|tone| ask(&mut kept, tone, &default));
    assert_eq!(seen, [0, 0, 1, 0, 1, 0]);
    assert!(kept.caches.pictures.bytes() <= 2 * one + one / 2);
    kept.caches.pictures = Pictures::new(one / 2);
    assert_eq!([1, 1].map(|tone| ask(&mut kept, tone, &default)), [0, 0], "larger than the bound");
}
