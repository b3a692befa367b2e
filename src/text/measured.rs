//! Inserts filters into a template's expressions, wherever a list or dict is created or a value is stored, that limit
//! its size ([`super::weight`]), because the engine has no hook in its operators. Filters are used since a template
//! can redefine functions but not filters.

use std::ops::Range;

/// The filter that checks a value and returns it.
pub(super) const FILTER: &str = "_measured";
/// The same for an attribute of a namespace.
pub(super) const ATTRIBUTE_FILTER: &str = "_measured_attribute";

/// Deepest nesting of brackets that is processed; the engine refuses deeper ones.
const DEPTH: usize = 200;

/// Inserts the filters into the source of an expression (`tag` is empty) or of what follows a tag's name. Line
/// numbers do not change.
pub(super) fn measured(tag: &str, source: &str) -> String {
    let tokens = tokens(source);
    let mut writer = Writer { source, tokens, at: 0, copied: 0, out: String::new(), depth: 0 };
    writer.tag(tag);
    // Unmatched closing brackets are left for the engine to report.
    while writer.peek().is_some() {
        writer.emit();
        writer.values(Place::Open);
    }
    writer.out + &source[writer.copied..]
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Token<'a> {
    Word(&'a str),
    /// A string or a number.
    Constant,
    Open(u8),
    Close,
    Comma,
    Assign,
    Dot,
    Pipe,
    Operator(&'a str),
}

fn tokens(source: &str) -> Vec<(Token<'_>, Range<usize>)> {
    let mut tokens = Vec::new();
    let bytes = source.as_bytes();
    let mut at = 0;
    while let Some(c) = source[at..].chars().next() {
        let start = at;
        at += c.len_utf8();
        let word = |from: usize| {
            let rest = &source[from..];
            from + rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())
        };
        let token = match c {
            _ if c.is_whitespace() => continue,
            '"' | '\'' => {
                while bytes.get(at).is_some_and(|&byte| byte != c as u8) {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                // An escaped character may have several bytes, and a string may be unterminated.
                at = (at + 1).min(source.len());
                while !source.is_char_boundary(at) {
                    at += 1;
                }
                Token::Constant
            }
            '0'..='9' => {
                at = word(at);
                Token::Constant
            }
            _ if c.is_alphabetic() || c == '_' => {
                at = word(at);
                Token::Word(&source[start..at])
            }
            '(' | '[' | '{' => Token::Open(c as u8),
            ')' | ']' | '}' => Token::Close,
            ',' => Token::Comma,
            '.' => Token::Dot,
            '|' => Token::Pipe,
            _ => {
                let pair = source.get(start..start + 2).unwrap_or_default();
                if ["==", "!=", "<=", ">=", "**", "//"].contains(&pair) {
                    at = start + 2;
                }
                match &source[start..at] {
                    "=" => Token::Assign,
                    operator => Token::Operator(operator),
                }
            }
        };
        tokens.push((token, start..at));
    }
    tokens
}

/// The context of a run of tokens up to its closing bracket.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    /// An expression whose value is not stored.
    Open,
    /// A value that `set` stores; a comma makes it a tuple.
    Assigned { attribute: bool },
    /// Names with values after `=`: those of `with`, and in the parentheses of `macro` and `call`.
    Parameters,
    /// Arguments of a function, filter or test.
    Arguments,
    /// The items of a list, dict or tuple, or an expression in parentheses.
    Items,
    /// An index into a value.
    Subscript,
}

/// The token before a bracket.
#[derive(Clone, Copy, PartialEq)]
enum Before {
    Operator,
    Value,
    /// The name of a test, whose argument may have no parentheses.
    Test,
}

struct Writer<'a> {
    source: &'a str,
    tokens: Vec<(Token<'a>, Range<usize>)>,
    at: usize,
    /// End of the source that has been copied to `out`.
    copied: usize,
    out: String,
    depth: usize,
}

impl<'a> Writer<'a> {
    fn peek(&self) -> Option<Token<'a>> {
        self.tokens.get(self.at).map(|(token, _)| *token)
    }

    /// Copies the next token with the white space before it.
    fn emit(&mut self) {
        if let Some((_, range)) = self.tokens.get(self.at) {
            self.out.push_str(&self.source[self.copied..range.end]);
            self.copied = range.end;
            self.at += 1;
        }
    }

    /// Applies a filter to what was written since `from`.
    fn filter(&mut self, from: usize, filter: &str) {
        self.out.insert_str(from, "((");
        self.out.push_str(&format!(")|{filter})"));
    }

    fn tag(&mut self, tag: &str) {
        match tag {
            "set" => match self.find(Token::Assign) {
                Some(end) => {
                    let target = &self.tokens[..end];
                    let attribute = target.iter().any(|(token, _)| *token == Token::Dot);
                    self.emit_to(end + 1);
                    self.values(Place::Assigned { attribute });
                }
                // A block, which may have filters after its name.
                None => self.values(Place::Open),
            },
            "for" => {
                let end = self.find(Token::Word("in")).unwrap_or(self.tokens.len());
                self.emit_to(end + 1);
                self.values(Place::Open);
            }
            "with" => self.values(Place::Parameters),
            "macro" | "call" => {
                if tag == "macro" {
                    self.emit();
                }
                if self.peek() == Some(Token::Open(b'(')) {
                    self.bracket(Place::Parameters);
                }
                self.values(Place::Open);
            }
            _ => self.values(Place::Open),
        }
    }

    /// The first such token outside of brackets.
    fn find(&self, wanted: Token<'_>) -> Option<usize> {
        let mut depth = 0usize;
        self.tokens.iter().position(|(token, _)| {
            match token {
                Token::Open(_) => depth += 1,
                Token::Close => depth = depth.saturating_sub(1),
                _ => {}
            }
            depth == 0 && *token == wanted
        })
    }

    fn emit_to(&mut self, end: usize) {
        while self.at < end.min(self.tokens.len()) {
            self.emit();
        }
    }

    /// Copies a bracket, its content and the closing bracket.
    fn bracket(&mut self, place: Place) {
        let from = self.out.len();
        // White space before the bracket stays outside.
        let from = from + self.tokens[self.at].1.start - self.copied;
        self.emit();
        let is_empty = self.peek() == Some(Token::Close);
        self.depth += 1;
        self.values(place);
        self.depth -= 1;
        if self.peek() == Some(Token::Close) {
            self.emit();
            if place == Place::Items && !is_empty {
                self.filter(from, FILTER);
            }
        }
    }

    /// Copies tokens up to a closing bracket or the end.
    fn values(&mut self, place: Place) {
        let keeps = |place| matches!(place, Place::Arguments | Place::Assigned { .. });
        let mut value = keeps(place).then_some(self.out.len());
        // True while the value consists of names, constants and measured values only.
        let mut plain = true;
        let mut before = Before::Operator;
        let mut previous = [Token::Comma; 2];
        while self.depth <= DEPTH {
            let Some(token) = self.peek() else { break };
            let begins = value == Some(self.out.len());
            match token {
                Token::Close => break,
                Token::Open(bracket) => {
                    let inner = match (bracket, before) {
                        (b'(', Before::Operator) | (b'{', _) => Place::Items,
                        (b'[', Before::Operator | Before::Test) => Place::Items,
                        (b'(', _) => Place::Arguments,
                        _ => Place::Subscript,
                    };
                    self.bracket(inner);
                    plain &= inner != Place::Arguments;
                }
                Token::Comma if matches!(place, Place::Assigned { .. }) => {
                    plain = false;
                    self.emit();
                }
                Token::Comma => {
                    self.end_value(place, value, plain);
                    self.emit();
                    value = keeps(place).then_some(self.out.len());
                    plain = true;
                }
                Token::Assign => {
                    self.emit();
                    value = Some(self.out.len());
                    plain = true;
                }
                // Unpacking of a list into arguments.
                Token::Operator("*" | "**") if begins => {
                    self.emit();
                    value = Some(self.out.len());
                }
                Token::Operator(_) | Token::Pipe => {
                    plain = false;
                    self.emit();
                }
                Token::Word(_) | Token::Constant | Token::Dot => self.emit(),
            }
            before = match (previous, token) {
                (_, Token::Close | Token::Constant | Token::Open(_)) => Before::Value,
                ([_, Token::Dot | Token::Pipe], Token::Word(_)) => Before::Value,
                ([_, Token::Word("is")], Token::Word("not")) => Before::Operator,
                (
                    [_, Token::Word("is")] | [Token::Word("is"), Token::Word("not")],
                    Token::Word(_),
                ) => Before::Test,
                (_, Token::Word("in" | "not" | "and" | "or" | "is" | "if" | "else")) => {
                    Before::Operator
                }
                (_, Token::Word(_)) => Before::Value,
                _ => Before::Operator,
            };
            previous = [previous[1], token];
        }
        self.end_value(place, value, plain);
    }

    fn end_value(&mut self, place: Place, value: Option<usize>, plain: bool) {
        let Some(from) = value.filter(|from| *from < self.out.len()) else { return };
        match place {
            Place::Assigned { attribute: true } => self.filter(from, ATTRIBUTE_FILTER),
            _ if plain => {}
            _ => self.filter(from, FILTER),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::measured;

    /// Writes the filters as `<…>` and `<<…>>`, so that the cases are readable; of three opening parentheses, the
    /// first two.
    fn short(tag: &str, source: &str) -> String {
        let text = measured(tag, source)
            .replace(")|_measured_attribute)", ">>")
            .replace(")|_measured)", ">");
        text.replace("((", "<")
    }

    #[test]
    fn values_that_are_made_or_kept_are_measured() {
        for (tag, source, expected) in [
            ("", " a.b[0] + c ", " a.b[0] + c "),
            ("", " [a, 'b'][0] ", " <[a, 'b']>[0] "),
            ("", "{'a': [1]} == {}", "<{'a': <[1]>}> == {}"),
            ("", "(a == b) and not (c)", "<(a == b)> and not <(c)>"),
            ("", "f(a, b.c, 'x', k=1)", "f(a, b.c, 'x', k=1)"),
            ("", "f(a + b, k=c|d, *e, **g)", "f<(a + b>, k=<c|d>, *e, **g)"),
            ("", "f(*a+b)", "f(*<a+b>)"),
            ("", "x|default([])|join(', ')", "x|default([])|join(', ')"),
            ("", "x is in [1] or y is not in(z)", "x is in <[1]> or y is not in(z)"),
            ("", "x is defined and x in ['a']", "x is defined and x in <['a']>"),
            ("", "x.in(y).if[0]", "x.in(y).if[0]"),
            ("", "'[' ~ \"(\\\"[\" ~ x", "'[' ~ \"(\\\"[\" ~ x"),
            ("set", " x = y ", " x = y "),
            ("set", " x = x + [y] ", " x =< x + <[y]>> "),
            ("set", " x, y = y, z", " x, y =< y, z>"),
            ("set", " ns.x = y ", " ns.x =<< y>> "),
            ("set", " x | f(a + b)", " x | f<(a + b>)"),
            ("for", " (a, b) in [c] if (d) ", " (a, b) in <[c]> if <(d)> "),
            ("macro", " m(a, b=[1], c=d + e) ", " m(a, b=<[1]>, c=<d + e>) "),
            ("call", "(a) m(b + c) ", "(a) m<(b + c>) "),
            ("with", " a = b + c, d = e ", " a =< b + c>, d = e "),
            ("", ") ] [1", ") ] [1"),
        ] {
            // Both filters begin with the same two parentheses.
            let expected = expected.replace("<<", "<");
            assert_eq!(short(tag, source), expected, "{tag} {source}");
        }
    }
}
