//! A model on an executor, with its cache.

use super::prepare::{Prepared, PreparedImage};
use crate::config::ModelConfig;
use crate::image::Normalization;
use crate::kv::{self, BlockTable, Pool};
use crate::model::llava::Llava;
use crate::model::vit::{Encoded, Survey};
use crate::model::{Progress, Source};
use crate::ops::{Chosen, Ops, Span};
use crate::{Error, Result};

/// Weights, executor and cache. The same code serves requests and, on the counter, predicts their cost.
pub struct Runner<O: Ops> {
    pub ops: O,
    pub model: Llava<O::Weight>,
    pub pool: Pool,
    cache: Option<O::Cache>,
}

/// The prompt's outcome.
pub struct Prefilled<O: Ops> {
    /// `[1, V]`.
    pub logits: O::Buffer,
    /// `[K, D]`, if asked for.
    pub visual_rows: Option<O::Buffer>,
    /// Rows of the prompt.
    pub tokens: usize,
}

impl<O: Ops> Runner<O> {
    pub fn load(config: &ModelConfig, mut ops: O, source: &dyn Source<O>) -> Result<Self> {
        let model = Llava::load(config, &mut ops, source)?;
        Ok(Self { ops, model, pool: Pool::new(0), cache: None })
    }

    /// Makes the cache hold at least `pages` pages; nobody may hold any.
    pub fn reserve(&mut self, config: &ModelConfig, pages: usize) -> Result<()> {
        if self.cache.is_none() || self.pool.pages() < pages {
            self.free_cache();
            self.cache = Some(self.ops.cache(kv::Shape::new(&config.text, pages))?);
            self.pool = Pool::new(pages);
        }
        Ok(())
    }

    /// Gives the cache back.
    pub fn free_cache(&mut self) {
        self.cache = None;
        self.pool = Pool::new(0);
    }

    /// What a batch about one picture looks at, whatever each request keeps of it. There is at least one image.
    pub fn survey(
        &mut self,
        images: &[&PreparedImage],
        norm: &Normalization,
        progress: &mut Progress<'_>,
    ) -> Result<Survey<O>> {
        let selections: Vec<_> = images.iter().map(|i| (&i.plan, i.layers)).collect();
        self.model.survey(&mut self.ops, &images[0].tiles, norm, &selections, progress)
    }

    /// Kept patches and features of an image; of its survey if there is one.
    pub fn encode(
        &mut self,
        image: &PreparedImage,
        norm: &Normalization,
        survey: Option<&Survey<O>>,
        progress: &mut Progress<'_>,
    ) -> Result<Encoded<O>> {
        if let Some(survey) = survey {
            return survey.select(&mut self.ops, &image.plan, image.layers);
        }
        self.model.encode(&mut self.ops, &image.tiles, norm, &image.plan, image.layers, progress)
    }

    /// Runs the decoder over a prompt.
    pub fn prefill(
        &mut self,
        prepared: &Prepared,
        image: Option<&Encoded<O>>,
        table: &mut BlockTable,
        progress: &mut Progress<'_>,
    ) -> Result<Prefilled<O>> {
        let slots = image.map_or(0, |i| i.kept.slots());
        let tokens = prepared.before.len() + slots + prepared.after.len();
        if tokens == 0 {
            return Err(Error::Request(
                "the prompt has no tokens and the rule kept no patch: give some words or a larger budget"
                    .into(),
            ));
        }
        self.pool.append(table, tokens)?;
        let rows = self.model.embed(&mut self.ops, prepared.prompt(), image)?;
        let visual_rows = (prepared.keep_stages && image.is_some())
            .then(|| {
                let first = prepared.before.len();
                let visual: Vec<usize> = (first..first + slots).collect();
                self.ops.gather(&rows, &visual)
            })
            .transpose()?;
        let span = Span { row: 0, rows: tokens, position: 0, pages: table.pages().to_vec() };
        let batch = self.ops.batch(Vec::new(), vec![span])?;
        let cache = self.cache.as_mut().expect("reserved before any work");
        let logits = self.model.prefill(&mut self.ops, rows, cache, &batch, progress)?;
        Ok(Prefilled { logits, visual_rows, tokens })
    }

    /// Feeds one token to each sequence; logits `[sequences, V]`.
    pub fn step(&mut self, sequences: &mut [(u32, &mut BlockTable)]) -> Result<O::Buffer> {
        let tokens: Vec<u32> = sequences.iter().map(|(token, _)| *token).collect();
        for (_, table) in sequences.iter_mut() {
            self.pool.append(table, 1)?;
        }
        let spans = sequences.iter().enumerate().map(|(row, (_, table))| Span {
            row,
            rows: 1,
            position: table.len() - 1,
            pages: table.pages().to_vec(),
        });
        let batch = self.ops.batch(tokens, spans.collect())?;
        let cache = self.cache.as_mut().expect("reserved before any work");
        self.model.decode(&mut self.ops, cache, &batch)
    }
}

/// The images of the requests of a sweep: one picture, whatever each request keeps of it.
pub fn images<'a>(batches: &[&'a [Prepared]]) -> Vec<&'a PreparedImage> {
    batches.iter().copied().flatten().filter_map(|p| p.image.as_ref()).collect()
}

/// Pages that a batch takes when every answer is as long as it may get.
pub fn pages(batch: &[Prepared]) -> usize {
    batch.iter().map(|p| kv::pages_for(p.positions())).sum()
}
