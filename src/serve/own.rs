//! hired's own fields of a body.

use super::error::ApiError;
use super::fields::Fields;
use hired::select::{Budget, Selection};

/// hired's own fields, at the top level of the body or in its object `hired`.
#[derive(Debug)]
pub struct OwnFields {
    pub budget_total: Option<Budget>,
    /// Use the cache of earlier requests, and leave results in it.
    pub cache: bool,
    pub kept: bool,
    pub overlay: bool,
}

impl Default for OwnFields {
    fn default() -> Self {
        Self { budget_total: None, cache: true, kept: false, overlay: false }
    }
}

impl OwnFields {
    pub fn read(&mut self, fields: &mut Fields, selection: &mut Selection) -> Result<(), ApiError> {
        if let Some(budget) = fields.parsed("budget")? {
            selection.budget = budget;
        }
        if let Some(total) = fields.parsed("budget_total")? {
            self.budget_total = Some(total);
        }
        if let Some(method) = fields.parsed("method")? {
            selection.method = method;
        }
        if let Some(rule) = fields.parsed("rule")? {
            selection.rule = rule;
        }
        if let Some(alpha) = fields.parsed("alpha")? {
            selection.alpha = alpha;
        }
        if let Some(newlines) = fields.parsed("newlines")? {
            selection.newlines = Some(newlines);
        }
        self.cache &= fields.flag("cache")?.unwrap_or(true);
        self.kept |= fields.flag("kept")?.unwrap_or(false);
        self.overlay |= fields.flag("overlay")?.unwrap_or(false);
        Ok(())
    }
}
