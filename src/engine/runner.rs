//! A model on an executor, with its key/value caches.

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

/// Model, executor and caches. The same code serves requests and, on the counting executor, predicts their cost.
pub struct Runner<O: Ops> {
    pub ops: O,
    pub model: Llava<O::Weight>,
    pub pools: Pools,
    room: Room,
    /// One cache per group of layers; empty if none is allocated.
    caches: Vec<O::Cache>,
    /// Pages that may hold prefixes for later requests.
    kept_pages: usize,
}

/// Access to the running sequences between two layers of another request's prefill, so that they can take decode
/// steps meanwhile.
pub struct Lent<'a, O: Ops> {
    pub ops: &'a mut O,
    pub pools: &'a mut Pools,
    model: &'a Llava<O::Weight>,
    caches: &'a mut [O::Cache],
}

/// Callback after each layer, as [`crate::model::Progress`], which may use the runner.
pub type Between<'a, O> = dyn FnMut(Lent<'_, O>, Stage, usize, usize) -> ControlFlow<()> + 'a;

/// A callback that does nothing.
pub fn quiet<O: Ops>(_: Lent<'_, O>, _: Stage, _: usize, _: usize) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// The result of a prefill.
pub struct Prefilled<O: Ops> {
    /// `[1, V]`: the logits of the last row.
    pub logits: O::Buffer,
    /// `[K, D]`: the image rows, if requested.
    pub visual_rows: Option<O::Buffer>,
    /// Rows of the prompt.
    pub tokens: usize,
    /// The rows that were left in the end, if the decoder dropped some.
    pub retained: Option<O::Retained>,
}

impl<O: Ops> Runner<O> {
    pub fn load(config: &ModelConfig, mut ops: O, source: &dyn Source<O>) -> Result<Self> {
        let model = Llava::load(config, &mut ops, source)?;
        let (pools, room) = (Pools::default(), Room::default());
        Ok(Self { ops, model, pools, room, caches: Vec::new(), kept_pages: 0 })
    }

    /// The size of the allocated caches.
    pub fn room(&self) -> &Room {
        &self.room
    }

    /// Allocates caches unless the present ones are large enough. No sequence may hold pages.
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

    /// Frees the caches.
    pub fn free_caches(&mut self) {
        self.caches.clear();
        self.room = Room::default();
        self.forget_sequences();
    }

    /// Marks all pages as free, whichever sequence held them.
    pub fn forget_sequences(&mut self) {
        self.pools = Pools::new(&self.room);
        self.pools.keep_at_most(self.kept_pages);
    }

    /// Sets how many pages may hold prefixes for later requests.
    pub fn keep_pages(&mut self, pages: usize) {
        self.kept_pages = pages;
        self.pools.keep_at_most(pages);
    }

    /// Collects what the requests of a batch about one image need from the vision tower. There must be at least one
    /// image.
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

    /// The kept patches and features of an image, computed from `survey` if it is given.
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

    /// The rows of an image in the form that the cache stores, reused or newly computed.
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

    /// Runs the decoder over a prompt in the parts given by `cuts`. Rows that the tables already hold are skipped.
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
                "the prompt has no text and no patch was kept: give some text or a larger budget"
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

    /// Runs the decoder over `rows` of a prompt, beginning at prompt row `first`.
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

    /// Borrows everything that running sequences need.
    pub fn lend(&mut self) -> Lent<'_, O> {
        let Self { ops, model, pools, caches, .. } = self;
        Lent { ops, pools, model, caches }
    }
}

impl<O: Ops> Lent<'_, O> {
    /// Runs one decode step with one token per sequence; returns logits `[sequences, V]`.
    pub fn step(&mut self, sequences: &mut [(u32, &mut Tables)]) -> Result<O::Buffer> {
        let tokens: Vec<u32> = sequences.iter().map(|(token, _)| *token).collect();
        // A sequence has one position, but its own cache slot in each group of layers.
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

/// The images of the requests of a sweep, which share one picture but differ in their selections.
pub fn images<'a>(batches: &[&'a [Prepared]]) -> Vec<&'a PreparedImage> {
    batches.iter().copied().flatten().flat_map(|p| &p.images).collect()
}

/// The cache size that batches need, run one after the other, if every answer reaches its maximum length.
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
