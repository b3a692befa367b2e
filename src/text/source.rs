//! Prepares a template's source for the Jinja engine.

use super::measured::measured;

/// Longest expression in bytes, with a string literal counting as one, because the engine's compile time grows with
/// the square of the length. Those in use have a few hundred.
const EXPRESSION_LIMIT: usize = 4096;

/// Translates `{% generation %}…{% endgeneration %}`, a tag that transformers adds to Jinja to mark the assistant's
/// text, limits the length of expressions, and inserts the filters that limit the size of values
/// ([`super::measured`]).
///
/// Each `generation` block becomes a `with` block, which is equivalent for rendering: the body has its own scope, and
/// the tag's white space control is kept. Text inside strings, comments and `raw` blocks is left alone; line numbers
/// do not change.
///
/// # Errors
/// The line with an expression that is too long.
pub(super) fn prepare(source: &str) -> Result<String, String> {
    let mut out = String::with_capacity(source.len());
    let mut copied = 0;
    let mut at = 0;
    while let Some(open) = find(source, at, "{") {
        let (tag, from, end) = match source.as_bytes().get(open + 1) {
            Some(b'#') => {
                at = find(source, open + 2, "#}").map_or(source.len(), |end| end + 2);
                continue;
            }
            Some(b'{') => ("", open + 2, expression_end(source, open + 2, b'}')?),
            Some(b'%') => {
                let (name, name_at) = tag_name(source, open + 2);
                let scope = match name {
                    "generation" => "with",
                    "endgeneration" => "endwith",
                    _ => name,
                };
                out.push_str(&source[copied..name_at]);
                out.push_str(scope);
                copied = name_at + name.len();
                (name, copied, expression_end(source, open + 2, b'%')?)
            }
            _ => {
                at = open + 1;
                continue;
            }
        };
        let (from, inner) = inside(source, from, end);
        out.push_str(&source[copied..from]);
        out.push_str(&measured(tag, inner));
        copied = from + inner.len();
        at = if tag == "raw" { raw_end(source, end)? } else { end };
    }
    out.push_str(&source[copied..]);
    Ok(out)
}

/// The content of a tag or expression that ends at `end`, without white space control signs; empty if the closing
/// delimiter is missing.
fn inside(source: &str, from: usize, end: usize) -> (usize, &str) {
    let text = source.get(from..end).unwrap_or_default();
    let Some(text) = text.strip_suffix("%}").or_else(|| text.strip_suffix("}}")) else {
        return (from, "");
    };
    let text = text.strip_suffix(['-', '+']).unwrap_or(text);
    match text.strip_prefix(['-', '+']).filter(|_| source[..from].ends_with("{{")) {
        Some(text) => (from + 1, text),
        None => (from, text),
    }
}

fn find(source: &str, from: usize, what: &str) -> Option<usize> {
    source.get(from..)?.find(what).map(|at| from + at)
}

/// The first word of a tag whose `{%` ends at `at`, and its position.
fn tag_name(source: &str, at: usize) -> (&str, usize) {
    let rest = &source[at..];
    let start = rest.trim_start_matches(['-', '+']).trim_start();
    let len = start.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(start.len());
    (&start[..len], at + rest.len() - start.len())
}

/// The position after the `%}` or `}}` that ends the expression starting at `from`, ignoring those in strings and the
/// braces of a dict.
fn expression_end(source: &str, from: usize, first: u8) -> Result<usize, String> {
    let bytes = source.as_bytes();
    let mut depth = 0usize;
    let mut length = 0;
    let mut at = from;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            quote @ (b'"' | b'\'') => {
                at += 1;
                while bytes.get(at).is_some_and(|&b| b != quote) {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
            }
            _ if depth == 0 && byte == first && bytes.get(at + 1) == Some(&b'}') => {
                return Ok(at + 2);
            }
            b'{' | b'[' | b'(' => depth += 1,
            b'}' | b']' | b')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
        length += 1;
        if length > EXPRESSION_LIMIT {
            let line = 1 + bytes[..from].iter().filter(|&&b| b == b'\n').count();
            return Err(format!(
                "the expression in line {line} is longer than {EXPRESSION_LIMIT} bytes"
            ));
        }
    }
    Ok(source.len())
}

/// The position after the `{% endraw %}` of a raw block whose content starts at `from`.
fn raw_end(source: &str, from: usize) -> Result<usize, String> {
    let mut at = from;
    while let Some(open) = find(source, at, "{%") {
        if tag_name(source, open + 2).0 == "endraw" {
            return expression_end(source, open + 2, b'%');
        }
        at = open + 2;
    }
    Ok(source.len())
}

#[cfg(test)]
mod tests {
    use super::{EXPRESSION_LIMIT, prepare};

    #[test]
    fn only_tags_change() {
        for (source, expected) in [
            ("a{% generation %}b{% endgeneration %}c", "a{% with %}b{% endwith %}c"),
            ("{%- generation -%}x{%-endgeneration+%}", "{%- with -%}x{%-endwith+%}"),
            ("{%\n  generation\n%}x", "{%\n  with\n%}x"),
            (
                "{# {% generation %} #}{{ '{% generation %}' }}",
                "{# {% generation %} #}{{ '{% generation %}' }}",
            ),
            ("{{ \"\\\"{% generation %}\" }}", "{{ \"\\\"{% generation %}\" }}"),
            (
                "{% raw %}{% generation %}{% endraw %}{% generation %}",
                "{% raw %}{% generation %}{% endraw %}{% with %}",
            ),
            (
                "{{ {'a': {'b': '{% generation %}'}} }}",
                "{{ (({'a': (({'b': '{% generation %}'})|_measured)})|_measured) }}",
            ),
            ("{% if '%}' %}{% generation %}", "{% if '%}' %}{% with %}"),
            ("{% generations %}{{ generation }}", "{% generations %}{{ generation }}"),
            ("é{% generation %}é", "é{% with %}é"),
        ] {
            assert_eq!(prepare(source).unwrap(), expected);
        }
    }

    #[test]
    fn broken_templates_pass_through() {
        for source in ["{%", "{", "{{ '\\", "{#", "{% raw %}", "{% '", "{%é", "{{é'é\\é", ""] {
            assert_eq!(prepare(source).unwrap(), source);
        }
    }

    #[test]
    fn long_expressions_are_refused_but_not_long_strings() {
        let long = "x".repeat(EXPRESSION_LIMIT + 1);
        assert!(prepare(&format!("{long}\n{{{{ '{long}' }}}}")).is_ok());
        assert!(prepare(&format!("\n\n{{% if {long} %}}")).unwrap_err().contains("line 3"));
    }
}
