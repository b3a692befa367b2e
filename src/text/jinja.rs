//! The Jinja environment for chat templates, with transformers' additions.

use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use super::{measured, weight};
use crate::guard::guarded;
use minijinja::value::{Kwargs, Rest, ValueKind, ValueOrKwargs};
use minijinja::{Environment, Error, ErrorKind, State, Value, syntax::SyntaxConfig};

/// Longest template source in bytes; those in use have less than 32 KiB.
pub(super) const SOURCE_LIMIT: usize = 64 << 10;
/// Fuel for rendering one prompt: steps, plus one per 64 bytes of text or lists created. Templates in use need a few
/// hundred, and six copies of a text of 1 MiB are allowed.
const FUEL: u64 = 100_000;
/// Stack size in bytes. Compilation recurses with the nesting of tags and expressions: 2 KB per `elif`, of which
/// templates have few, and per operator of an expression, whose length is limited. The default of 2 MiB is not
/// enough.
const STACK: usize = 16 << 20;
/// Longest JSON text in bytes, indentation included.
const JSON_LIMIT: usize = 16 << 20;
const INDENT: usize = 64;

/// An environment without templates.
pub(super) fn environment() -> Environment<'static> {
    let mut env = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    env.set_syntax(syntax.expect("the default delimiters are valid"));
    env.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    env.set_unknown_method_callback(|state, value, method, args| {
        if method == "format" {
            modest_format(value)?;
        }
        minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args)
    });
    env.add_filter("format", |state: &mut State, value: &Value, args: Rest<ValueOrKwargs>| {
        modest_format(value)?;
        minijinja::filters::format(state, value, args)
    });
    env.set_debug(false);
    env.set_fuel(Some(FUEL));
    env.add_function("raise_exception", |message: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, message))
    });
    env.add_function("strftime_now", |format: &str| -> Result<String, Error> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        strftime(format, now)
    });
    env.add_filter("tojson", tojson);
    env.add_filter(measured::FILTER, weight::bounded);
    env.add_filter(measured::ATTRIBUTE_FILTER, weight::bounded_attribute);
    env.add_function("namespace", |attributes: Option<ValueOrKwargs>| {
        if let Some(attributes) = &attributes {
            weight::check_attributes(attributes)?;
        }
        minijinja::functions::namespace(attributes)
    });
    env.set_formatter(|out, state, value| {
        weight::check(value)?;
        minijinja::escape_formatter(out, state, value)
    });
    env
}

/// Runs work in which a template can cause deep recursion on a thread with a large stack.
pub(super) fn on_large_stack<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, String> {
    std::thread::scope(|scope| {
        let thread =
            std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, || guarded(work));
        let thread = thread.map_err(|e| {
            let size = STACK >> 20;
            format!("cannot be run: a thread with {size} MiB for its stack could not be started ({e}); free some memory, or raise the limits on memory or threads")
        })?;
        thread.join().ok().flatten().ok_or_else(|| "makes the template engine fail".to_owned())
    })
}

/// Refuses format strings that could ask for excessive padding: a width of more than four digits, or one that is
/// taken from the arguments. The engine counts fuel for the text only after it was created.
fn modest_format(format: &Value) -> Result<(), Error> {
    let text = format.as_str().unwrap_or_default();
    let wide = text.split(|c: char| !c.is_ascii_digit()).any(|digits| digits.len() > 4);
    // A brace inside a field; escaped braces come in pairs.
    let mut opened = text.split('{').skip(1).peekable();
    let mut nested = false;
    while let Some(field) = opened.next() {
        nested |= opened.peek().is_some() && !field.is_empty() && !field.contains('}');
    }
    if wide || nested || text.contains('*') {
        let what = "format: a width of more than four digits, or one taken from the arguments";
        return Err(Error::new(ErrorKind::InvalidOperation, what));
    }
    Ok(())
}

/// `json.dumps(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False)`.
fn tojson(value: &Value, options: Kwargs) -> Result<String, Error> {
    let indent = match options.get::<Option<Value>>("indent")? {
        None => None,
        Some(v) if v.is_none() => None,
        Some(v) => {
            let indent = v.as_str().map(str::to_owned);
            let count = |v| usize::try_from(v).map(|n: usize| " ".repeat(n.min(INDENT + 1)));
            Some(indent.map_or_else(|| count(v), Ok)?)
        }
    };
    let default = (if indent.is_some() { "," } else { ", " }, ": ");
    let separators = match options.get::<Option<Value>>("separators")? {
        None => None,
        Some(v) if v.is_none() => None,
        Some(v) => {
            let part = |i| v.get_item_by_index(i).map(|part| part.to_string());
            Some((part(0)?, part(1)?))
        }
    };
    let (item, key) = separators.unwrap_or((default.0.into(), default.1.into()));
    let mut json = Json {
        out: String::new(),
        indent,
        item,
        key,
        ascii: options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
        sorted: options.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
    };
    options.assert_all_used()?;
    if json.indent.as_ref().is_some_and(|indent| indent.len() > INDENT) {
        let what = format!("tojson: the indent is longer than {INDENT}");
        return Err(Error::new(ErrorKind::InvalidOperation, what));
    }
    weight::check(value)?;
    json.write(value, 0)?;
    Ok(json.out)
}

struct Json {
    out: String,
    indent: Option<String>,
    item: String,
    key: String,
    ascii: bool,
    sorted: bool,
}

impl Json {
    fn write(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        let invalid =
            |what: &str| Error::new(ErrorKind::InvalidOperation, format!("tojson: {what}"));
        if self.out.len() > JSON_LIMIT {
            return Err(invalid("the text is too long"));
        }
        match value.kind() {
            ValueKind::None => self.out.push_str("null"),
            ValueKind::Bool => self.out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => {
                let _ = write!(self.out, "{value}");
            }
            ValueKind::String => self.string(value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => {
                self.out.push('[');
                let mut empty = true;
                for item in value.try_iter()? {
                    self.separate(&mut empty, depth + 1);
                    self.write(&item, depth + 1)?;
                }
                self.close(empty, depth, ']');
            }
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.sorted {
                    keys.sort();
                }
                self.out.push('{');
                let mut empty = true;
                for key in keys {
                    self.separate(&mut empty, depth + 1);
                    self.string(&key.to_string());
                    self.out.push_str(&self.key);
                    self.write(&value.get_item(&key)?, depth + 1)?;
                }
                self.close(empty, depth, '}');
            }
            kind => return Err(invalid(&format!("a value of kind {kind} has no JSON form"))),
        }
        Ok(())
    }

    fn separate(&mut self, empty: &mut bool, depth: usize) {
        if !std::mem::replace(empty, false) {
            self.out.push_str(&self.item);
        }
        self.line(depth);
    }

    fn close(&mut self, empty: bool, depth: usize, bracket: char) {
        if !empty {
            self.line(depth);
        }
        self.out.push(bracket);
    }

    fn line(&mut self, depth: usize) {
        if let Some(indent) = &self.indent {
            self.out.push('\n');
            self.out.push_str(&indent.repeat(depth));
        }
    }

    fn string(&mut self, text: &str) {
        let json = serde_json::Value::from(text).to_string();
        if !self.ascii {
            return self.out.push_str(&json);
        }
        for c in json.chars() {
            if c.is_ascii() {
                self.out.push(c);
            } else {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(self.out, "\\u{unit:04x}");
                }
            }
        }
    }
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] =
    ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/// C's strftime in UTC and English, for `seconds` after 1970. Python would use local time, which the standard library
/// does not provide.
fn strftime(format: &str, seconds: u64) -> Result<String, Error> {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let (year, month, day, day_of_year) = date(days);
    let weekday = (days + 3) % 7; // 1 January 1970 was a Thursday.
    let (month_name, day_name) = (MONTHS[month as usize - 1], DAYS[weekday as usize]);
    let twelve = (hour + 11) % 12 + 1;
    let mut out = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut code = chars.next();
        // glibc's `%-d`: without a leading zero.
        let plain = code == Some('-');
        if plain {
            code = chars.next();
        }
        let mut number = |n: u64, width: usize| {
            let _ = if plain { write!(out, "{n}") } else { write!(out, "{n:0width$}") };
        };
        match code {
            Some('Y') => number(year, 4),
            Some('y') => number(year % 100, 2),
            Some('m') => number(month, 2),
            Some('d') => number(day, 2),
            Some('H') => number(hour, 2),
            Some('I') => number(twelve, 2),
            Some('M') => number(minute, 2),
            Some('S') => number(second, 2),
            Some('j') => number(day_of_year, 3),
            Some('e') => out.push_str(&format!("{day:2}")),
            Some('p') => out.push_str(if hour < 12 { "AM" } else { "PM" }),
            Some('B') => out.push_str(month_name),
            Some('b' | 'h') => out.push_str(&month_name[..3]),
            Some('A') => out.push_str(day_name),
            Some('a') => out.push_str(&day_name[..3]),
            Some('F') => out.push_str(&format!("{year:04}-{month:02}-{day:02}")),
            Some('T') => out.push_str(&format!("{hour:02}:{minute:02}:{second:02}")),
            Some('Z') => {} // Empty for a time without zone, as in Python.
            Some('%') => out.push('%'),
            other => {
                let code: String = other.into_iter().collect();
                let what = format!("strftime_now does not support %{code}");
                return Err(Error::new(ErrorKind::InvalidOperation, what));
            }
        }
    }
    Ok(out)
}

/// Year, month, day, and day of the year from 1, of a day counted from 1 January 1970.
fn date(mut days: u64) -> (u64, u64, u64, u64) {
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    // Every 400 years have the same number of days; subtracting them keeps the loops below short.
    let mut year = 1970 + days / 146_097 * 400;
    days %= 146_097;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let day_of_year = days + 1;
    let february = 28 + u64::from(leap(year));
    let mut month = 0;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        month += 1;
        if days < length {
            break;
        }
        days -= length;
    }
    (year, month, days + 1, day_of_year)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strftime_as_python() {
        // datetime.fromtimestamp(seconds, timezone.utc).strftime(...)
        let all = "%Y-%m-%d %H:%M:%S %y %b %B %a %A %j %e %I %p %F %T %-d%%";
        for (seconds, expected) in [
            (
                0,
                "1970-01-01 00:00:00 70 Jan January Thu Thursday 001  1 12 AM 1970-01-01 00:00:00 1%",
            ),
            (
                951_868_799,
                "2000-02-29 23:59:59 00 Feb February Tue Tuesday 060 29 11 PM 2000-02-29 23:59:59 29%",
            ),
            (
                1_735_646_400,
                "2024-12-31 12:00:00 24 Dec December Tue Tuesday 366 31 12 PM 2024-12-31 12:00:00 31%",
            ),
            (
                4_107_542_400,
                "2100-03-01 00:00:00 00 Mar March Mon Monday 060  1 12 AM 2100-03-01 00:00:00 1%",
            ),
        ] {
            assert_eq!(strftime(all, seconds).unwrap(), expected);
        }
        assert!(strftime("%Q", 0).unwrap_err().to_string().contains("%Q"));
        assert!(strftime("%", 0).is_err());
        assert!(strftime("%Y", u64::MAX).is_ok());
    }
}
