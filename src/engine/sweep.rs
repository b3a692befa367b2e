//! The same requests under many selections, the picture seen once.

use super::answer::Answer;
use super::predict::check_memory;
use super::prepare::Prepared;
use super::request::{Image, Request};
use super::runner::{images, room};
use super::session::Session;
use crate::Result;
use crate::ops::{DECODE_ROWS, Ops};
use crate::select::Selection;
use std::ops::ControlFlow;
use std::time::Instant;

impl<O: Ops> Session<O> {
    /// See [`super::Engine::sweep`].
    pub(super) fn answer_under(
        &mut self,
        image: &Image,
        requests: &[Request],
        selections: &[Selection],
    ) -> Result<Vec<Vec<Answer>>> {
        let start = Instant::now();
        if requests.is_empty() || selections.is_empty() {
            return Ok(vec![Vec::new(); selections.len()]);
        }
        let tiles = self.preparer.tiles(image)?;
        let mut batches: Vec<Vec<Prepared>> = Vec::new();
        // For each selection the batches that answer it: those of an equal one before it, or its own.
        let mut places: Vec<usize> = Vec::new();
        let groups = requests.len().div_ceil(DECODE_ROWS);
        for selection in selections {
            let under = |request: &Request| {
                let request =
                    Request { selection: selection.clone(), image: None, ..request.clone() };
                self.preparer.prepare_on(&request, Some(tiles.clone()))
            };
            let first = under(&requests[0])?;
            let equal = |at: &usize| keeps_the_same(&batches[*at], &first);
            if let Some(place) = (0..batches.len()).step_by(groups).find(equal) {
                places.push(place);
                continue;
            }
            places.push(batches.len());
            for group in requests.chunks(DECODE_ROWS) {
                batches.push(group.iter().map(under).collect::<Result<_>>()?);
            }
        }
        let room = self.room(room(batches.iter().map(Vec::as_slice)))?;
        self.require_all(batches.iter().flatten())?;
        let (config, norm, held) =
            (&self.preparer.config, &self.preparer.normalization, self.held());
        let need = self.predictor.sweep_need(config, norm, &batches, &room, held)?;
        check_memory(&need, held, self.runner.ops.available())?;
        self.take(&need, &room)?;

        let mut quiet = |_, _, _| ControlFlow::Continue(());
        let begun = self.settled(|session| {
            let norm = &session.preparer.normalization;
            let survey = session.runner.survey(&images(&batches), norm, &mut quiet)?;
            let mut begun = Vec::with_capacity(batches.len());
            for batch in &batches {
                let served =
                    session.serve(batch, Some(&survey), start, &mut |_| ControlFlow::Continue(()));
                begun.extend(served?);
            }
            Ok(begun)
        })?;
        let memory = self.memory(need.peak);
        let answers: Vec<Answer> = begun.into_iter().map(|b| self.answer(b, memory)).collect();
        let of_place = |place: usize| {
            let first = place / groups * requests.len();
            answers[first..first + requests.len()].to_vec()
        };
        Ok(places.into_iter().map(of_place).collect())
    }
}

/// Whether a batch about a picture sees what `request` about it would see.
fn keeps_the_same(batch: &[Prepared], request: &Prepared) -> bool {
    let seen = |p: &Prepared| p.image.as_ref().map(|i| (i.plan.clone(), i.layers.needed(&i.plan)));
    batch.first().is_some_and(|first| seen(first) == seen(request))
}
