//! The VQA challenge's comparison of answers, which normalises both sides first.
//!
//! Antol et al., "VQA: Visual Question Answering", ICCV 2015, and the preprocessing of the published evaluation:
//! lower case, no line breaks, punctuation and articles removed, number words as digits, apostrophes restored in
//! contractions. As in TextVQA's evaluation, answers on which all annotators agree are normalised too.

/// Characters that are removed or become a blank, see [`punctuation`].
const PUNCTUATION: [char; 21] = [
    ';', '/', '[', ']', '"', '{', '}', '(', ')', '=', '+', '\\', '_', '-', '>', '<', '@', '`', ',',
    '?', '!',
];

const NUMBERS: [(&str, &str); 12] = [
    ("none", "0"),
    ("zero", "0"),
    ("one", "1"),
    ("two", "2"),
    ("three", "3"),
    ("four", "4"),
    ("five", "5"),
    ("six", "6"),
    ("seven", "7"),
    ("eight", "8"),
    ("nine", "9"),
    ("ten", "10"),
];

/// Contractions in which a missing apostrophe is restored.
const CONTRACTIONS: &[&str] = &[
    "'ow's'at",
    "'twas",
    "ain't",
    "aren't",
    "can't",
    "could've",
    "couldn't",
    "couldn't've",
    "didn't",
    "doesn't",
    "don't",
    "hadn't",
    "hadn't've",
    "hasn't",
    "haven't",
    "he'd",
    "he'd've",
    "he's",
    "how'd",
    "how'll",
    "how's",
    "isn't",
    "it'd",
    "it'd've",
    "it'll",
    "ma'am",
    "might've",
    "mightn't",
    "mightn't've",
    "must've",
    "mustn't",
    "needn't",
    "not've",
    "o'clock",
    "oughtn't",
    "shan't",
    "she'd've",
    "should've",
    "shouldn't",
    "shouldn't've",
    "somebody'd've",
    "somebody'll",
    "somebody's",
    "someone'd",
    "someone'd've",
    "someone'll",
    "someone's",
    "something'd",
    "something'd've",
    "something'll",
    "that's",
    "there'd",
    "there'd've",
    "there're",
    "there's",
    "they'd",
    "they'd've",
    "they'll",
    "they're",
    "they've",
    "wasn't",
    "we'd've",
    "we've",
    "weren't",
    "what'll",
    "what're",
    "what's",
    "what've",
    "when's",
    "where'd",
    "where's",
    "where've",
    "who'd",
    "who'd've",
    "who'll",
    "who's",
    "who've",
    "why'll",
    "why're",
    "why's",
    "won't",
    "would've",
    "wouldn't",
    "wouldn't've",
    "y'all",
    "y'all'd've",
    "y'all'll",
    "you'd",
    "you'd've",
    "you'll",
    "you're",
    "you've",
];

/// The normalised form of an answer.
pub fn normal(answer: &str) -> String {
    let text = answer.replace(['\n', '\t'], " ");
    let text = punctuation(text.trim()).to_lowercase();
    let words = text.split_whitespace().filter_map(|word| {
        let word = NUMBERS.iter().find(|(name, _)| *name == word).map_or(word, |(_, digit)| digit);
        (!["a", "an", "the"].contains(&word)).then(|| contraction(word))
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Removes a mark next to a blank, and all marks of a text with a comma between digits; other marks become blanks.
/// Full stops are removed unless a digit follows.
fn punctuation(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let grouped =
        chars.windows(3).any(|w| w[0].is_ascii_digit() && w[1] == ',' && w[2].is_ascii_digit());
    let mut out = String::new();
    for (i, &c) in chars.iter().enumerate() {
        if c == '.' {
            if chars.get(i + 1).is_some_and(char::is_ascii_digit) {
                out.push(c);
            }
        } else if !PUNCTUATION.contains(&c) {
            out.push(c);
        } else {
            let beside = text.contains(&format!("{c} ")) || text.contains(&format!(" {c}"));
            if !beside && !grouped {
                out.push(' ');
            }
        }
    }
    out
}

fn contraction(word: &str) -> &str {
    let lacks_one = |full: &str| {
        full.match_indices('\'').any(|(i, _)| [&full[..i], &full[i + 1..]].concat() == word)
    };
    CONTRACTIONS.iter().find(|full| lacks_one(full)).map_or(word, |full| full)
}

/// Accuracy against the answers of several annotators: the mean over leaving out one annotator at a time of
/// min(agreeing others / 3, 1).
pub fn accuracy(answer: &str, people: &[String]) -> f64 {
    let answer = normal(answer);
    let people: Vec<String> = people.iter().map(|a| normal(a)).collect();
    let agreeing = people.iter().filter(|a| **a == answer).count();
    if people.len() == 1 {
        return agreeing as f64;
    }
    let turns = people.iter().map(|left_out| {
        let others = agreeing - usize::from(*left_out == answer);
        (others as f64 / 3.0).min(1.0)
    });
    turns.sum::<f64>() / people.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_brought_into_one_form() {
        for (answer, expected) in [
            ("The Dog.", "dog"),
            ("two", "2"),
            ("it's a  cat\n", "it's cat"),
            ("dont know", "don't know"),
            ("1,000", "1000"),
            ("3.5", "3.5"),
            ("red/blue", "red blue"),
            ("red / blue", "red blue"),
            ("stop!", "stop"),
            ("cant", "can't"),
            ("wouldnt've", "wouldn't've"),
            ("were", "were"),
            ("none of The two", "0 of 2"),
            ("e.g. 1.5.", "eg 1.5"),
        ] {
            assert_eq!(normal(answer), expected, "{answer}");
        }
    }

    #[test]
    fn three_people_are_enough() {
        let people = |yes: usize| {
            let mut all = vec!["yes".to_owned(); yes];
            all.resize(10, "no".to_owned());
            accuracy("Yes.", &all)
        };
        assert_eq!(people(0), 0.0);
        assert!((people(1) - 0.3).abs() < 1e-9);
        assert!((people(2) - 0.6).abs() < 1e-9);
        assert!((people(3) - 0.9).abs() < 1e-9);
        assert_eq!(people(4), 1.0);
        assert_eq!(accuracy("yes", &["Yes".into()]), 1.0);
    }
}
