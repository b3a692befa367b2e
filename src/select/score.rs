//! The kind of score that ranks patches.

use std::fmt;
use std::str::FromStr;

use super::selection::named;
use crate::{Error, Result};

/// A score from the attention in a block of the vision tower.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Score {
    /// The class token's attention to the patch, as in HiRED.
    #[default]
    Cls,
    /// The attention that the patch receives: the mean over all queries of its partition, the class token's included
    /// if there is one.
    Received,
    /// The attention to the patch of the tower's own pooling head: of its learned query (probe), behind the last block. SigLIP's
    /// has one, if its files hold it.
    Head,
}

named!(Score, "score", Cls = "cls", Received = "received", Head = "head");

impl Score {
    /// The requested score, or the tower's default: the class token's attention if it has one.
    ///
    /// # Errors
    /// [`Error::Request`] for a class token's that is not there, and for a pooling head's in a tower that has a class token
    /// for that.
    pub(super) fn of(asked: Option<Self>, class_token: bool) -> Result<Self> {
        match asked {
            None if class_token => Ok(Self::Cls),
            None => Ok(Self::Received),
            Some(Self::Cls) if !class_token => Err(Error::Request(
                "score cls: this model's vision tower has no class token (SigLIP): use received, the default for such models"
                    .into(),
            )),
            Some(Self::Head) if class_token => Err(Error::Request(
                "score head: this model's vision tower pools by its class token, only SigLIP's has a pooling head: take cls or \
                 received"
                    .into(),
            )),
            Some(score) => Ok(score),
        }
    }
}
