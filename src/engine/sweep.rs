//! The same requests under many selections, the picture seen once.

use super::answer::Answer;
use super::predict::check_memory;
use super::prepare::Prepared;
use super::request::{Image, Request};
use super::runner::{images, pages};
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
        let mut batches = Vec::new();
        for selection in selections {
            for group in requests.chunks(DECODE_ROWS) {
                let prepare = |request: &Request| {
                    let request =
                        Request { selection: selection.clone(), image: None, ..request.clone() };
                    self.preparer.prepare_on(&request, Some(tiles.clone()))
                };
                batches.push(group.iter().map(prepare).collect::<Result<Vec<Prepared>>>()?);
            }
        }
        let most = batches.iter().map(|batch| pages(batch)).max().unwrap_or(0);
        self.check_cache(most)?;
        self.require_all(batches.iter().flatten())?;
        let (config, norm, held) =
            (&self.preparer.config, &self.preparer.normalization, self.held());
        let need = self.predictor.sweep_need(config, norm, &batches, held)?;
        check_memory(&need, held, self.runner.ops.available())?;
        self.take(&need, most)?;

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
        let mut answers = begun.into_iter().map(|b| self.answer(b, memory));
        Ok(selections.iter().map(|_| answers.by_ref().take(requests.len()).collect()).collect())
    }
}
