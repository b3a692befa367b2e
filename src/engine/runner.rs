//! A model on an executor, with its caches.

use super::prepare::{Prepared, PreparedImage};
use crate::config::ModelConfig;
use crate::image::Normalization;
use crate::kv::{self, Pools, Room, Tables};
use crate::model::Source;
use crate::model::decoder::{Forwarded, Thinning};
use crate::model::llava::Llava;
use crate::model::vit::{Encoded, Survey};
use crate::ops::clock::Stage;
use crate::ops::{Chosen, Ops, Span};
use crate::{Error, Result};
use std::collections::BTreeSet;
use std::ops::ControlFlow;

/// Weights, executor and caches. The same code serves requests and, on the counter, predicts their cost.
pub struct Runner<O: Ops> {
    pub ops: O,
    pub model: Llava<O::Weight>,
    pub pools: Pools,
    room: Room,
    /// One for each group of layers; none when nothing is taken.
    caches: Vec<O::Cache>,
}

/// A runner in the hands of who works between two blocks of somebody's prompt: its sequences can go on meanwhile.
pub struct Lent<'a, O: Ops> {
    pub ops: &'a mut O,
    pub pools: &'a mut Pools,
    model: &'a Llava<O::Weight>,
    caches: &'a mut [O::Cache],
}

/// Hears of every finished block as [`crate::model::Progress`] does, and may use the runner in between.
pub type Between<'a, O> = dyn FnMut(Lent<'_, O>, Stage, usize, usize) -> ControlFlow<()> + 'a;

/// Nobody waits.
pub fn quiet<O: Ops>(_: Lent<'_, O>, _: Stage, _: usize, _: usize) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// The prompt's outcome.
pub struct Prefilled<O: Ops> {
    /// `[1, V]`.
    pub logits: O::Buffer,
    /// `[K, D]`, if asked for.
    pub visual_rows: Option<O::Buffer>,
    /// Rows of the prompt.
    pub tokens: usize,
    /// Those of them that were left in the end, if the decoder dropped some.
    pub retained: Option<O::Retained>,
}

impl<O: Ops> Runner<O> {
    pub fn load(config: &ModelConfig, mut ops: O, source: &dyn Source<O>) -> Result<Self> {
        let model = Llava::load(config, &mut ops, source)?;
        let (pools, room) = (Pools::default(), Room::default());
        Ok(Self { ops, model, pools, room, caches: Vec::new() })
    }

    /// The caches that there are.
    pub fn room(&self) -> &Room {
        &self.room
    }

    /// Takes caches unless there is room already; nobody may hold any page.
    pub fn reserve(&mut self, config: &ModelConfig, room: &Room) -> Result<()> {
        if !self.room.holds(room) {
            self.free_caches();
            for shape in room.shapes(&config.text) {
                self.caches.push(self.ops.cache(shape)?);
            }
            self.room = room.clone();
            self.forget_sequences();
        }
        Ok(())
    }

    /// Gives the caches back.
    pub fn free_caches(&mut self) {
        self.caches.clear();
        self.room = Room::default();
        self.forget_sequences();
    }

    /// All pages are free, whoever held them.
    pub fn forget_sequences(&mut self) {
        self.pools = Pools::new(&self.room);
    }

    /// What a batch about one picture looks at, whatever each request keeps of it. There is at least one image.
    pub fn survey(
        &mut self,
        images: &[&PreparedImage],
        norm: &Normalization,
        between: &mut Between<'_, O>,
    ) -> Result<Survey<O>> {
        let selections: Vec<_> = images.iter().map(|i| (&i.plan, i.layers)).collect();
        let Self { ops, model, pools, caches, .. } = self;
        let model = &*model;
        model.survey(ops, &images[0].tiles, norm, &selections, &mut |ops, _, stage, done, all| {
            between(Lent { ops, pools, model, caches }, stage, done, all)
        })
    }

    /// Kept patches and features of an image; of its survey if there is one.
    pub fn encode(
        &mut self,
        image: &PreparedImage,
        norm: &Normalization,
        survey: Option<&Survey<O>>,
        between: &mut Between<'_, O>,
    ) -> Result<Encoded<O>> {
        if let Some(survey) = survey {
            return survey.select(&mut self.ops, &image.plan, image.layers);
        }
        let PreparedImage { tiles, plan, layers, .. } = image;
        let Self { ops, model, pools, caches, .. } = self;
        let model = &*model;
        model.encode(ops, tiles, norm, plan, *layers, &mut |ops, _, stage, done, all| {
            between(Lent { ops, pools, model, caches }, stage, done, all)
        })
    }

    /// Runs the decoder over a prompt.
    pub fn prefill(
        &mut self,
        prepared: &Prepared,
        images: &[Encoded<O>],
        tables: &mut Tables,
        between: &mut Between<'_, O>,
    ) -> Result<Prefilled<O>> {
        let slots: usize = images.iter().map(|image| image.kept.slots()).sum();
        let tokens = prepared.text_tokens() + slots;
        if tokens == 0 {
            return Err(Error::Request(
                "the prompt has no tokens and the rule kept no patch: give some words or a larger budget"
                    .into(),
            ));
        }
        let firsts: Vec<usize> = self.room.firsts().collect();
        self.pools.append(tables, |group| tokens - prepared.dropped(firsts[group]))?;
        let rows = self.model.embed(&mut self.ops, &prepared.texts, images)?;
        let visual_rows = (prepared.keep_stages && !images.is_empty())
            .then(|| {
                let places = prepared.image_rows(images.iter().map(|image| image.kept.slots()));
                let visual: Vec<usize> = places.into_iter().flatten().collect();
                self.ops.gather(&rows, &visual)
            })
            .transpose()?;
        let mut batches = Vec::new();
        let mut later = Vec::new();
        for ((table, cache), first) in tables.iter().zip(&self.caches).zip(firsts) {
            let pages = table.pages().to_vec();
            if prepared.dropped(first) > 0 {
                later.push(pages);
                continue;
            }
            let span = Span { row: 0, rows: tokens, slot: 0, position: 0, pages };
            batches.push(self.ops.batch(cache, Vec::new(), vec![span])?);
        }
        let thinned = prepared.thinned(slots);
        let thinning = thinned.map(|(among, keep)| Thinning { among, keep, pages: later });
        let Self { ops, model, pools, caches, .. } = self;
        let model = &*model;
        let mut progress = |ops: &mut O, caches: &mut [O::Cache], stage, done, all| {
            between(Lent { ops, pools, model, caches }, stage, done, all)
        };
        let thinning = thinning.as_ref();
        let Forwarded { logits, retained } =
            model.prefill(ops, rows, caches, &batches, thinning, &mut progress)?;
        Ok(Prefilled { logits, visual_rows, tokens, retained })
    }

    /// All of it that its sequences need to go on.
    pub fn lend(&mut self) -> Lent<'_, O> {
        let Self { ops, model, pools, caches, .. } = self;
        Lent { ops, pools, model, caches }
    }
}

impl<O: Ops> Lent<'_, O> {
    /// Feeds one token to each sequence; logits `[sequences, V]`.
    pub fn step(&mut self, sequences: &mut [(u32, &mut Tables)]) -> Result<O::Buffer> {
        let tokens: Vec<u32> = sequences.iter().map(|(token, _)| *token).collect();
        // The rows of the step for each group: a sequence has a place of its own in each, and one position.
        let mut spans: Vec<Vec<Span>> = self.caches.iter().map(|_| Vec::new()).collect();
        for (row, (_, tables)) in sequences.iter_mut().enumerate() {
            let position = tables.positions();
            self.pools.append(tables, |_| 1)?;
            for (spans, table) in spans.iter_mut().zip(tables.iter()) {
                let (slot, pages) = (table.len() - 1, table.pages().to_vec());
                spans.push(Span { row, rows: 1, slot, position, pages });
            }
        }
        let mut batches = Vec::new();
        for (spans, cache) in spans.into_iter().zip(self.caches.iter()) {
            batches.push(self.ops.batch(cache, tokens.clone(), spans)?);
        }
        self.model.decode(self.ops, self.caches, &batches)
    }
}

/// The images of the requests of a sweep: one picture, whatever each request keeps of it.
pub fn images<'a>(batches: &[&'a [Prepared]]) -> Vec<&'a PreparedImage> {
    batches.iter().copied().flatten().flat_map(|p| &p.images).collect()
}

/// What batches take, one after the other, when every answer is as long as it may get.
pub fn room_for<'a>(batches: impl Iterator<Item = &'a [Prepared]> + Clone) -> Room {
    let drops = batches.clone().flatten().filter_map(Prepared::late).map(|late| late.layer);
    let firsts: BTreeSet<usize> = drops.chain([0]).collect();
    let rows = |request: &Prepared, first| request.positions() - request.dropped(first);
    Room::new(firsts, |first| {
        let pages = |batch: &[Prepared]| {
            batch.iter().map(|request| kv::pages_for(rows(request, first))).sum()
        };
        batches.clone().map(pages).max().unwrap_or(0)
    })
}
