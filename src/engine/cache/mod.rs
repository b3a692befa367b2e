//! Results that later requests can reuse: image features, and keys and values of prompt prefixes.
//!
//! An answer has the same bits whether something was reused or not. Image features are stored exactly as computed.
//! With a cache, every prompt is computed in parts that end where a prefix may be kept ([`cuts`]), so that all
//! matrices have the same shapes whether the prefix was found or not.

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

/// The caches of a session.
#[derive(Debug, Default)]
pub struct Caches {
    pub pictures: Pictures,
    pub beginnings: Beginnings,
}

/// The cached results that a request can use.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// The cached features of each image, if there are any.
    pictures: Vec<Option<Arc<Picture>>>,
    /// The cached prefix of the prompt, and its number of rows.
    pub beginning: Option<(Beginning, usize)>,
}

/// How much of a request was reused.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reused {
    /// True if the request used the caches.
    pub looked: bool,
    /// Images of the request.
    pub images: usize,
    /// Images that were not encoded again.
    pub known_images: usize,
    /// Rows of the prompt; an upper bound if the number is not known.
    pub all_rows: usize,
    /// Rows of the prompt that were not computed again.
    pub rows: usize,
    /// Bytes of all cached images.
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
    /// Looks up what a request can reuse; the result needs no more workspace than the request was granted.
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

    /// Stores the new results of a request. `tables` hold its prompt, `kept` the selection of each image.
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

/// The cache keys of a request's images.
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
