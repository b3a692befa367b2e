//! Answers the same requests under many selections while encoding the image only once.

use super::answer::{Answer, Event};
use super::batch::Fate;
use super::company;
use super::predict::{Need, check_memory};
use super::prepare::Prepared;
use super::request::{Image, Prompt, Request};
use super::runner::{Lent, images, room_for};
use super::session::Session;
use crate::ops::{DECODE_ROWS, Ops};
use crate::select::Selection;
use crate::{Error, Result};
use std::ops::ControlFlow;
use std::time::Instant;

impl<O: Ops> Session<O> {
    /// See [`super::Engine::sweep`].
    pub(super) fn answer_under(
        &mut self,
        image: &Image,
        requests: &[Request],
        selections: &[Selection],
        go_on: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<Vec<Vec<Answer>>> {
        let start = Instant::now();
        if requests.is_empty() || selections.is_empty() {
            return Ok(vec![Vec::new(); selections.len()]);
        }
        if requests.iter().any(|request| matches!(request.prompt, Prompt::Messages(_))) {
            return Err(Error::Request(
                "a sweep places its image before the text: give text instead of messages".into(),
            ));
        }
        let tiles = self.preparer.tiles(image)?;
        // For each selection, the requests that keep other tokens than under the selections before it.
        let mut asked: Vec<Vec<Prepared>> = Vec::new();
        let mut places = Vec::with_capacity(selections.len());
        for selection in selections {
            let under = |request: &Request| {
                let request =
                    Request { selection: selection.clone(), image: None, ..request.clone() };
                self.preparer.prepare_on(&request, vec![tiles.clone()])
            };
            let first = under(&requests[0])?;
            let place = asked.iter().position(|other| keeps_the_same(&other[0], &first));
            places.push(place.unwrap_or(asked.len()));
            if place.is_none() {
                let others = requests[1..].iter().map(under);
                asked.push(std::iter::once(Ok(first)).chain(others).collect::<Result<_>>()?);
            }
        }
        self.require_all(asked.iter().flatten())?;
        let (batches, need) = self.fitting(&asked)?;

        let answers = self.settled(|session| {
            let norm = &session.preparer.normalization;
            let mut layer = |_: Lent<'_, O>, _, _, _| go_on();
            let survey = session.runner.survey(&images(&batches), norm, &mut layer)?;
            let mut answers: Vec<Answer> = Vec::with_capacity(batches.len());
            for batch in &batches {
                let heard = &mut |_: Event<'_>| go_on();
                let fate = Fate::Shared;
                let served = session.serve(batch, Some(&survey), start, fate, need.peak, heard)?;
                answers.extend(served.into_iter().collect::<Result<Vec<_>>>()?);
                if go_on().is_break() {
                    return Err(Error::Cancelled);
                }
            }
            Ok(answers)
        })?;
        // The memory of all batches together.
        let memory = company::memory(self.runner.ops.meter(), need.peak);
        let answers: Vec<Answer> = answers.into_iter().map(|a| Answer { memory, ..a }).collect();
        let of_place = |place: usize| answers[place * requests.len()..][..requests.len()].to_vec();
        Ok(places.into_iter().map(of_place).collect())
    }

    /// Splits the requests into batches that fit into memory, and allocates that memory.
    fn fitting<'a>(&mut self, asked: &'a [Vec<Prepared>]) -> Result<(Vec<&'a [Prepared]>, Need)> {
        let mut at_once = DECODE_ROWS;
        loop {
            let batches: Vec<&[Prepared]> = asked.iter().flat_map(|a| a.chunks(at_once)).collect();
            match self.take_for(&batches) {
                Ok(need) => return Ok((batches, need)),
                Err(Error::Capacity(_)) if at_once > 1 => at_once /= 2,
                Err(error) => return Err(error),
            }
        }
    }

    fn take_for(&mut self, batches: &[&[Prepared]]) -> Result<Need> {
        let room = self.granted(room_for(batches.iter().copied()))?;
        let (config, norm, held) =
            (&self.preparer.config, &self.preparer.normalization, self.held());
        let need = self.predictor.sweep_need(config, norm, batches, &room, held)?;
        check_memory(&need, held, self.runner.ops.available())?;
        self.take(&need, &room)?;
        Ok(need)
    }
}

/// Returns true if two requests keep the same tokens of the image.
fn keeps_the_same(one: &Prepared, other: &Prepared) -> bool {
    let seen = |p: &Prepared| p.images.first().map(|i| (i.plan.clone(), i.layers));
    seen(one) == seen(other)
}
