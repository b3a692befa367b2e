//! What later requests need not compute again: rows of images, and keys and values of prompts' beginnings.
//!
//! An answer is the same to the bit whether something was found here or not. Rows of an image are kept as they were
//! computed. Prompts are computed in parts that end where a beginning may be kept ([`cuts`]), found or not, so that every
//! matrix has the shape that it has without a cache's help.

mod beginnings;
mod pictures;

pub use beginnings::{Beginnings, cuts};
pub use pictures::{Picture, Pictures, Sight};

use super::prepare::Prepared;
use super::serving::Job;
use super::session::Session;
use crate::Result;
use crate::kv::{Beginning, Tables};
use crate::model::vit::Encoded;
use crate::ops::Ops;
use crate::select::Kept;
use std::sync::Arc;

/// What a session keeps.
#[derive(Debug, Default)]
pub struct Caches {
    pub pictures: Pictures,
    pub beginnings: Beginnings,
}

/// What a request finds.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// Of each image, those that are there.
    pictures: Vec<Option<Arc<Picture>>>,
    /// The prompt's first rows, and how many they are.
    pub beginning: Option<(Beginning, usize)>,
}

/// How much of a request was found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reused {
    /// Whether the request looked.
    pub looked: bool,
    /// Images that it has.
    pub images: usize,
    /// Images that were not encoded again.
    pub known_images: usize,
    /// Rows of the prompt, the most there can be.
    pub all_rows: usize,
    /// Rows of the prompt that were not computed again.
    pub rows: usize,
    /// Bytes of all images that are kept.
    pub bytes: usize,
}

impl Found {
    pub fn picture(&self, index: usize) -> Option<&Picture> {
        self.pictures.get(index)?.as_deref()
    }

    /// Rows that need not be computed.
    pub fn rows(&self) -> usize {
        self.beginning.map_or(0, |(_, rows)| rows)
    }

    fn is_empty(&self) -> bool {
        self.beginning.is_none() && self.known() == 0
    }

    fn known(&self) -> usize {
        self.pictures.iter().flatten().count()
    }
}

impl<O: Ops> Session<O> {
    /// What is there of a request that is about to begin, in no more workspace than was granted to it.
    pub(super) fn look_up(&mut self, job: &Job<'_>) -> Result<(Found, Reused)> {
        let looked_for = job.forecast.as_ref().and_then(|f| Some((f.sights.as_ref()?, f)));
        let Some((sights, forecast)) = looked_for else { return Ok(Default::default()) };
        let mut found = Found {
            pictures: sights.iter().map(|sight| self.caches.pictures.find(sight)).collect(),
            beginning: self.caches.beginnings.find(&job.prepared, sights, &self.runner.pools),
        };
        if !found.is_empty() {
            let (config, norm) = (&self.preparer.config, &self.preparer.normalization);
            let (room, predictor) = (&forecast.room, &mut self.predictor);
            let need = predictor.need_with(config, norm, &job.prepared, room, &found)?;
            if need.workspace > forecast.workspace {
                found = Found::default();
            }
        }
        let reused = Reused {
            looked: true,
            images: sights.len(),
            known_images: found.known(),
            all_rows: job.prepared.prompt_tokens(),
            rows: found.rows(),
            bytes: 0,
        };
        Ok((found, reused))
    }

    /// Keeps what a request has computed that was not there; `tables` have its prompt, `kept` is of each image.
    pub(super) fn remember(
        &mut self,
        job: &Job<'_>,
        found: &Found,
        encoded: &[Encoded<O>],
        kept: Vec<Kept>,
        tables: &Tables,
    ) -> Result<()> {
        let Some(sights) = job.forecast.as_ref().and_then(|f| f.sights.as_ref()) else {
            return Ok(());
        };
        for (index, ((sight, encoded), kept)) in sights.iter().zip(encoded).zip(kept).enumerate() {
            if found.picture(index).is_none() && self.caches.pictures.takes() {
                let rows = self.runner.ops.save(&encoded.features)?;
                self.caches.pictures.keep(Picture::new(sight.clone(), rows, kept));
            }
        }
        let beginnings = &mut self.caches.beginnings;
        beginnings.keep(&job.prepared, sights, found.rows(), tables, &mut self.runner.pools);
        Ok(())
    }
}

/// What decides the rows of each image of a request.
pub fn sights(prepared: &Prepared) -> Vec<Sight> {
    let mut after_inexact = false;
    let images = prepared.images.iter();
    images
        .map(|image| {
            let sight = Sight::of(image, after_inexact);
            after_inexact |= !image.plan.is_exact();
            sight
        })
        .collect()
}

#[cfg(test)]
mod tests;
