//! A model on an executor, with its caches.

use super::cache::Picture;
use super::prepare::{Prepared, PreparedImage};
use crate::config::ModelConfig;
use crate::image::Normalization;
use crate::kv::{self, Pools, Room, Tables};
use crate::model::Source;
use crate::model::decoder::{Forwarded, Thinning};
use crate::model::llava::Llava;
use crate::model::vit::{Encoded, Survey};
use crate::ops::clock::Stage;
use crate::ops::{Chosen, Extent, Ops, Span};
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
    /// Pages that beginnings of prompts may be kept in.
    kept_pages: usize,
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
        Ok(Self { ops, model, pools, room, caches: Vec::new(), kept_pages: 0 })
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
        self.pools.keep_at_most(self.kept_pages);
    }

    /// How many pages may hold beginnings of prompts for those that come later.
    pub fn keep_pages(&mut self, pages: usize) {
        self.kept_pages = pages;
        self.pools.keep_at_most(pages);
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

    /// An image's rows as a cache keeps them, those that it has or new ones.
    pub fn encode_to_keep(
        &mut self,
        image: &PreparedImage,
        norm: &Normalization,
        known: Option<&Picture>,
        between: &mut Between<'_, O>,
    ) -> Result<Encoded<O>> {
        if let Some(picture) = known {
            self.ops.enter(Stage::Upload)?;
            let kept = self.ops.recall(&image.plan, &picture.kept)?;
            let features = self.ops.restore(&picture.rows)?;
            let (partitions, init) = (None, Vec::new());
            return Ok(Encoded { features, projected: true, kept, partitions, init });
        }
        let encoded = self.encode(image, norm, None, between)?;
        self.model.project(&mut self.ops, encoded)
    }

    /// Runs the decoder over a prompt, part after part between these `cuts`. Rows that the tables have already are done.
    pub fn prefill(
        &mut self,
        prepared: &Prepared,
        images: &[Encoded<O>],
        tables: &mut Tables,
        cuts: &[usize],
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
        let known = tables.positions();
        self.pools.append(tables, |group| {
            let first = self.room.firsts().nth(group).unwrap_or(0);
            tokens - prepared.dropped(first) - known
        })?;
        let mut rows = Some(self.model.embed(&mut self.ops, &prepared.texts, images)?);
        let visual_rows = (prepared.keep_stages && !images.is_empty())
            .then(|| {
                let places = prepared.image_rows(images.iter().map(|image| image.kept.slots()));
                let visual: Vec<usize> = places.into_iter().flatten().collect();
                self.ops.gather(rows.as_ref().expect("embedded above"), &visual)
            })
            .transpose()?;
        let ends = cuts.iter().copied().filter(|&cut| cut > known).chain([tokens]);
        let ends: Vec<usize> = ends.collect();
        let mut first = known;
        let mut outcome = None;
        for (part, &end) in ends.iter().enumerate() {
            let taken = match rows.take_if(|rows| first == 0 && end == rows.rows()) {
                Some(all) => all,
                None => {
                    let all = rows.as_ref().expect("there until all are taken");
                    self.ops.gather(all, &(first..end).collect::<Vec<_>>())?
                }
            };
            if end == tokens {
                rows = None;
            }
            let mut told = |lent: Lent<'_, O>, stage, done, all: usize| {
                between(lent, stage, part * all + done, ends.len() * all)
            };
            outcome = Some(self.part(prepared, slots, taken, first, tables, &mut told)?);
            first = end;
        }
        let Forwarded { logits, retained } = outcome.expect("a prompt has rows");
        Ok(Prefilled { logits, visual_rows, tokens, retained })
    }

    /// Runs the decoder over `rows` of a prompt, of which the first is its row `first`.
    fn part(
        &mut self,
        prepared: &Prepared,
        slots: usize,
        rows: O::Buffer,
        first: usize,
        tables: &Tables,
        between: &mut Between<'_, O>,
    ) -> Result<Forwarded<O>> {
        let mut batches = Vec::new();
        let mut later = Vec::new();
        for ((table, cache), group) in tables.iter().zip(&self.caches).zip(self.room.firsts()) {
            if prepared.dropped(group) > 0 {
                later.push(table.pages().to_vec());
                continue;
            }
            let end = first + rows.rows();
            let pages = table.pages()[..kv::pages_for(end)].to_vec();
            let span = Span { row: 0, rows: rows.rows(), slot: first, position: first, pages };
            batches.push(self.ops.batch(cache, Vec::new(), vec![span])?);
        }
        let thinned = prepared.thinned(slots);
        let thinning = thinned.map(|(among, keep)| Thinning { among, keep, pages: later });
        let Self { ops, model, pools, caches, .. } = self;
        let model = &*model;
        let mut progress = |ops: &mut O, caches: &mut [O::Cache], stage, done, all| {
            between(Lent { ops, pools, model, caches }, stage, done, all)
        };
        model.prefill(ops, rows, caches, &batches, thinning.as_ref(), &mut progress)
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
