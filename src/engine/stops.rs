//! Stop texts, which end an answer.

/// Searches a text that arrives in pieces for stop texts, and holds back what may be the start of one.
#[derive(Debug, Default)]
pub struct Stops {
    texts: Vec<String>,
    held: String,
}

impl Stops {
    /// Searches for `texts`, none of which may be empty.
    pub fn new(texts: Vec<String>) -> Self {
        Self { texts, held: String::new() }
    }

    /// Takes a piece. Returns the text that certainly comes before any stop text, and whether one was found. What
    /// follows a stop text is dropped.
    pub fn push(&mut self, piece: &str) -> (String, bool) {
        if self.texts.is_empty() {
            return (piece.into(), false);
        }
        self.held.push_str(piece);
        let found = self.texts.iter().filter_map(|text| self.held.find(text.as_str())).min();
        if let Some(at) = found {
            self.held.truncate(at);
            return (std::mem::take(&mut self.held), true);
        }
        let starts_one = |tail: &str| self.texts.iter().any(|text| text.starts_with(tail));
        let places = self.held.char_indices().map(|(at, _)| at);
        let from = places.into_iter().find(|&at| starts_one(&self.held[at..]));
        let rest = self.held.split_off(from.unwrap_or(self.held.len()));
        (std::mem::replace(&mut self.held, rest), false)
    }

    /// The text that was held back, once no more pieces come.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text that passes through, and after how many pieces it ended.
    fn through(texts: &[&str], pieces: &[&str]) -> (String, Option<usize>) {
        let mut stops = Stops::new(texts.iter().map(|text| (*text).into()).collect());
        let mut all = String::new();
        for (count, piece) in pieces.iter().enumerate() {
            let (text, found) = stops.push(piece);
            all += &text;
            if found {
                return (all, Some(count + 1));
            }
        }
        (all + &stops.finish(), None)
    }

    #[test]
    fn a_text_is_found_wherever_the_pieces_end() {
        assert_eq!(through(&["\n\n"], &["one\n", "\ntwo"]), ("one".into(), Some(2)));
        assert_eq!(through(&["stop"], &["a s", "t", "op b"]), ("a ".into(), Some(3)));
        assert_eq!(through(&["stop"], &["st", "st", "op"]), ("st".into(), Some(3)));
        // The first stop text in the input counts, whatever the order of the list.
        assert_eq!(through(&["z", "b"], &["abcz"]), ("a".into(), Some(1)));
        assert_eq!(through(&["日本"], &["x日", "本"]), ("x".into(), Some(2)));
    }

    #[test]
    fn what_only_looks_like_one_is_let_through_at_last() {
        assert_eq!(through(&["stop"], &["sto", "ne sto"]), ("stone sto".into(), None));
        assert_eq!(through(&[], &["a", "", "b"]), ("ab".into(), None));
        let mut stops = Stops::new(vec!["###".into()]);
        assert_eq!(stops.push("a#b##"), ("a#b".into(), false));
        assert_eq!(stops.push("c"), ("##c".into(), false));
    }
}
