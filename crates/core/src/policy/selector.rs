//! Selectors as text.
//!
//! ```text
//! selector = and-chain { "or" and-chain }
//! and-chain = one { "and" one }
//! one = "not" one | "(" selector ")" | "all" | "has" key
//!     | key "=" value | key "!=" value | key [ "not" ] "in" "(" value { "," value } ")"
//!     | "host.package." name ( "<" | "<=" | ">" | ">=" ) version
//! ```
//! `and` binds closer than `or`. Keys and values are words of letters, digits and `. _ / - + : ~ * ?`, or
//! anything in single or double quotes (`\` before a quote or another `\` takes it as it is). Key words (`and`,
//! `or`, `not`, `in`, `has`, `all`) are written small; as a key they need quotes.

use super::parse::nearest;
use super::{FACTS, Order, PACKAGE_VERSION, Selector};
use std::fmt;

/// Longest selector, in bytes.
pub const MAX_SELECTOR_BYTES: usize = 4096;
/// Deepest nesting of brackets and `not`.
pub const MAX_SELECTOR_DEPTH: u32 = 24;

const KEY_WORDS: [&str; 6] = ["all", "and", "has", "in", "not", "or"];

/// Why a text is no selector, where, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelectorError {
    /// Byte in the text where it went wrong: 0 to its length.
    pub offset: usize,
    /// The same in characters, counted from 1.
    pub position: usize,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub hint: String,
}

impl fmt::Display for SelectorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "character {}: {}; {}", self.position, self.message, self.hint)
    }
}
impl std::error::Error for SelectorError {}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Word(String),
    Quoted(String),
    Equals,
    Differs,
    Order(Order),
    Open,
    Close,
    Comma,
    End,
}

impl Token {
    fn is(&self, word: &str) -> bool {
        matches!(self, Self::Word(w) if w == word)
    }
    fn text(self) -> Option<String> {
        match self {
            Self::Word(text) | Self::Quoted(text) => Some(text),
            _ => None,
        }
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(text) => write!(f, "`{text}`"),
            Self::Quoted(text) => write!(f, "the text {text:?}"),
            Self::Equals => f.write_str("`=`"),
            Self::Differs => f.write_str("`!=`"),
            Self::Order(order) => write!(f, "`{order}`"),
            Self::Open => f.write_str("`(`"),
            Self::Close => f.write_str("`)`"),
            Self::Comma => f.write_str("`,`"),
            Self::End => f.write_str("the end"),
        }
    }
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || "._/-+:~*?".contains(c)
}

struct Parser<'a> {
    text: &'a str,
    /// End of what was read.
    at: usize,
    /// The token ahead, and where it begins.
    ahead: Token,
    begins: usize,
}

impl Selector {
    /// Parses a selector.
    ///
    /// # Errors
    /// [`SelectorError`] with the position, and what to write instead. Texts above [`MAX_SELECTOR_BYTES`] and
    /// nesting above [`MAX_SELECTOR_DEPTH`] are refused.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut parser = Parser { text, at: 0, ahead: Token::End, begins: 0 };
        if text.len() > MAX_SELECTOR_BYTES {
            let message = format!(
                "the selector has {} bytes, at most {MAX_SELECTOR_BYTES} are read",
                text.len()
            );
            return Err(parser.error_at(
                0,
                message,
                "give the hosts a label of their own and select that",
            ));
        }
        parser.advance()?;
        if parser.ahead == Token::End {
            return Err(parser.error("the selector is empty", "write `all` for every host"));
        }
        let selector = parser.or(0)?;
        match &parser.ahead {
            Token::End => Ok(selector),
            Token::Word(word)
                if ["AND", "OR", "NOT", "IN", "HAS", "And", "Or", "Not", "In"]
                    .contains(&word.as_str()) =>
            {
                let hint = format!("write `{}`", word.to_ascii_lowercase());
                Err(parser.error(format!("`{word}` does not fit here"), &hint))
            }
            Token::Comma => Err(parser
                .error("`,` does not fit here", "several values are written `role in (web, api)`")),
            Token::Close => {
                Err(parser.error("`)` closes nothing", "take it away, or open it with `(` before"))
            }
            Token::Order(order) => {
                let message = format!("`{order}` does not fit here");
                let hint =
                    format!("a version is compared so: `{PACKAGE_VERSION}nginx {order} 1.22.1-9`");
                Err(parser.error(message, &hint))
            }
            other => {
                let message = format!("{other} does not fit here");
                Err(parser.error(message, "join conditions with `and` or `or`"))
            }
        }
    }
}

impl Parser<'_> {
    fn error(&self, message: impl Into<String>, hint: &str) -> SelectorError {
        self.error_at(self.begins, message, hint)
    }

    fn error_at(&self, offset: usize, message: impl Into<String>, hint: &str) -> SelectorError {
        let position = self.text[..offset].chars().count() + 1;
        SelectorError { offset, position, message: message.into(), hint: hint.to_owned() }
    }

    /// Reads the next token and gives the one that was ahead.
    fn advance(&mut self) -> Result<Token, SelectorError> {
        let rest = self.text[self.at..].trim_start();
        self.begins = self.text.len() - rest.len();
        let (token, length) = match rest.chars().next() {
            None => (Token::End, 0),
            Some('(') => (Token::Open, 1),
            Some(')') => (Token::Close, 1),
            Some(',') => (Token::Comma, 1),
            Some('=') => (Token::Equals, if rest.starts_with("==") { 2 } else { 1 }),
            Some('!') if rest.starts_with("!=") => (Token::Differs, 2),
            Some('<' | '>') => {
                let order = Order::begins(rest);
                (Token::Order(order), order.symbol().len())
            }
            Some(quote @ ('"' | '\'')) => self.quoted(rest, quote)?,
            Some(c) if is_word(c) => {
                let length = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
                (Token::Word(rest[..length].to_owned()), length)
            }
            Some(c) => {
                let hint = match c {
                    '!' => "write `not` before a condition, or `!=` between key and value",
                    '&' => "write `and`",
                    '|' => "write `or`",
                    '{' | '[' | '}' | ']' => "lists are written `role in (web, api)`",
                    _ => "put values with odd characters in quotes: 'like this'",
                };
                return Err(self.error(format!("{c:?} does not belong in a selector"), hint));
            }
        };
        self.at = self.begins + length;
        Ok(std::mem::replace(&mut self.ahead, token))
    }

    fn quoted(&self, rest: &str, quote: char) -> Result<(Token, usize), SelectorError> {
        let mut out = String::new();
        let mut chars = rest.char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                c if c == quote => return Ok((Token::Quoted(out), at + 1)),
                '\\' => match chars.next() {
                    Some((_, c @ ('\\' | '"' | '\''))) => out.push(c),
                    Some((at, _)) => {
                        let hint = "write `\\\\` for a backslash, or `\\` before a quote";
                        return Err(self.error_at(
                            self.begins + at,
                            "nothing else can follow a backslash",
                            hint,
                        ));
                    }
                    None => break,
                },
                c => out.push(c),
            }
        }
        Err(self.error("the quote is not closed", &format!("end it with {quote}")))
    }

    fn or(&mut self, depth: u32) -> Result<Selector, SelectorError> {
        let mut of = vec![self.and(depth)?];
        while self.ahead.is("or") {
            self.advance()?;
            of.push(self.and(depth)?);
        }
        Ok(if of.len() == 1 { of.swap_remove(0) } else { Selector::Or { of } })
    }

    fn and(&mut self, depth: u32) -> Result<Selector, SelectorError> {
        let mut of = vec![self.one(depth)?];
        while self.ahead.is("and") {
            self.advance()?;
            of.push(self.one(depth)?);
        }
        Ok(if of.len() == 1 { of.swap_remove(0) } else { Selector::And { of } })
    }

    fn one(&mut self, depth: u32) -> Result<Selector, SelectorError> {
        if depth > MAX_SELECTOR_DEPTH {
            let message =
                format!("more than {MAX_SELECTOR_DEPTH} brackets and `not`s are nested here");
            return Err(self.error(message, "give the hosts a label of their own and select that"));
        }
        if self.ahead == Token::Open {
            let opened = self.begins;
            self.advance()?;
            let inner = self.or(depth + 1)?;
            if self.ahead == Token::End {
                return Err(self.error_at(opened, "this `(` is never closed", "add `)`"));
            }
            if self.ahead != Token::Close {
                let message = format!("{} does not fit here", self.ahead);
                return Err(
                    self.error(message, "join conditions with `and` or `or`, or close with `)`")
                );
            }
            self.advance()?;
            return Ok(inner);
        }
        if self.ahead.is("not") {
            self.advance()?;
            return Ok(Selector::Not { of: Box::new(self.one(depth + 1)?) });
        }
        if self.ahead.is("all") {
            self.advance()?;
            return Ok(Selector::All);
        }
        if self.ahead.is("has") {
            self.advance()?;
            return Ok(Selector::Has { key: self.key()? });
        }
        let key = self.key()?;
        self.condition(key)
    }

    fn key(&mut self) -> Result<String, SelectorError> {
        let begins = self.begins;
        if let Token::Word(word) = &self.ahead
            && KEY_WORDS.contains(&word.as_str())
        {
            let message = format!("a condition is missing before `{word}`");
            return Err(self.error(
                message,
                "write one such as `role=web` (a label of that name goes in quotes)",
            ));
        }
        if !matches!(self.ahead, Token::Word(_) | Token::Quoted(_)) {
            let message = format!("a condition is missing before {}", self.ahead);
            return Err(self.error(message, "write one such as `role=web`, or `all`"));
        }
        let key = self.advance()?.text().unwrap_or_default();
        if key.is_empty() {
            return Err(self.error_at(begins, "the key is empty", "write a label such as `role`"));
        }
        if key == PACKAGE_VERSION {
            let hint = format!("write one such as `{PACKAGE_VERSION}nginx`");
            return Err(self.error_at(begins, "the name of the package is missing", &hint));
        }
        if (key.starts_with("os.") || key.starts_with("host."))
            && !FACTS.contains(&key.as_str())
            && !key.starts_with(PACKAGE_VERSION)
        {
            let hint = match nearest(&key, &FACTS) {
                Some(fact) => format!("did you mean `{fact}`?"),
                None => format!("facts are {}", FACTS.join(", ")),
            };
            return Err(self.error_at(begins, format!("`{key}` is no fact"), &hint));
        }
        Ok(key)
    }

    fn condition(&mut self, key: String) -> Result<Selector, SelectorError> {
        let not = |of| Selector::Not { of: Box::new(of) };
        match self.ahead {
            Token::Equals => {
                self.advance()?;
                Ok(Selector::In { key, values: vec![self.value()?] })
            }
            Token::Differs => {
                self.advance()?;
                Ok(not(Selector::In { key, values: vec![self.value()?] }))
            }
            _ if self.ahead.is("in") => {
                self.advance()?;
                Ok(Selector::In { key, values: self.values()? })
            }
            _ if self.ahead.is("not") => {
                self.advance()?;
                if !self.ahead.is("in") {
                    let message = format!("{} does not fit here", self.ahead);
                    return Err(self.error(message, &format!("write `{key} not in (…)`")));
                }
                self.advance()?;
                Ok(not(Selector::In { key, values: self.values()? }))
            }
            Token::Order(order) if key.starts_with(PACKAGE_VERSION) => {
                self.advance()?;
                Ok(Selector::Version { key, order, value: self.version(order)? })
            }
            Token::Order(_) => {
                let message = format!("`{key}` has no order, only versions of packages have one");
                let hint = format!("write such as `{PACKAGE_VERSION}nginx < 1.22.1-9`");
                Err(self.error(message, &hint))
            }
            _ => {
                let message = format!("`{key}` is compared with nothing: {} follows", self.ahead);
                let hint = match &self.ahead {
                    Token::Word(name) if ["package", "host.package"].contains(&key.as_str()) => {
                        format!(
                            "write `host.package={name}`, or `{PACKAGE_VERSION}{name} < VERSION`"
                        )
                    }
                    _ => format!("write `{key}=value`, `{key} in (one, other)` or `has {key}`"),
                };
                Err(self.error(message, &hint))
            }
        }
    }

    fn version(&mut self, order: Order) -> Result<String, SelectorError> {
        let begins = self.begins;
        if !matches!(self.ahead, Token::Word(_) | Token::Quoted(_)) {
            let message = format!("a version is missing before {}", self.ahead);
            return Err(self.error(message, "write one such as `1.22.1-9`"));
        }
        let version = self.value()?;
        if version.is_empty() || version.contains(['*', '?']) {
            let message = format!("nothing is `{order}` {version:?}: it is not one version");
            return Err(self.error_at(begins, message, "write one such as `1.22.1-9`"));
        }
        Ok(version)
    }

    fn value(&mut self) -> Result<String, SelectorError> {
        if !matches!(self.ahead, Token::Word(_) | Token::Quoted(_)) {
            let message = format!("a value is missing before {}", self.ahead);
            return Err(self.error(message, "write one such as `web`, or '' for an empty one"));
        }
        Ok(self.advance()?.text().unwrap_or_default())
    }

    fn values(&mut self) -> Result<Vec<String>, SelectorError> {
        if self.ahead != Token::Open {
            let message = format!("a list is missing before {}", self.ahead);
            return Err(self.error(message, "write one such as `(web, api)`"));
        }
        let opened = self.begins;
        self.advance()?;
        let mut values = vec![self.value()?];
        loop {
            match self.ahead {
                Token::Comma => {
                    self.advance()?;
                    values.push(self.value()?);
                }
                Token::Close => {
                    self.advance()?;
                    return Ok(values);
                }
                Token::End => {
                    return Err(self.error_at(opened, "this list is never closed", "add `)`"));
                }
                _ => {
                    let message = format!("{} does not fit in a list", self.ahead);
                    return Err(
                        self.error(message, "write `,` between values and `)` after the last")
                    );
                }
            }
        }
    }
}

impl Order {
    /// The one that a text of `<` or `>` begins with.
    fn begins(text: &str) -> Self {
        match text.as_bytes() {
            [b'<', b'=', ..] => Self::AtMost,
            [b'<', ..] => Self::Less,
            [_, b'=', ..] => Self::AtLeast,
            _ => Self::Greater,
        }
    }

    /// As selectors write it.
    fn symbol(self) -> &'static str {
        match self {
            Self::Less => "<",
            Self::AtMost => "<=",
            Self::Greater => ">",
            Self::AtLeast => ">=",
        }
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.symbol())
    }
}

/// A word where it can stand as one, else quoted.
struct Quote<'a> {
    text: &'a str,
    key: bool,
}

impl fmt::Display for Quote<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { text, key } = self;
        if !text.is_empty() && text.chars().all(is_word) && !(*key && KEY_WORDS.contains(text)) {
            return f.write_str(text);
        }
        f.write_str("'")?;
        for c in text.chars() {
            if c == '\'' || c == '\\' {
                f.write_str("\\")?;
            }
            write!(f, "{c}")?;
        }
        f.write_str("'")
    }
}

impl fmt::Display for Selector {
    /// Text that parses to this selector again. Forms that no text has (a list or chain of none) print as what
    /// they mean.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let chain = |f: &mut fmt::Formatter<'_>, of: &[Self], word: &str| {
            for (i, part) in of.iter().enumerate() {
                if i > 0 {
                    write!(f, " {word} ")?;
                }
                match part {
                    Self::Or { of: parts } | Self::And { of: parts }
                        if of.len() > 1
                            && parts.len() > 1
                            && (word == "and" || matches!(part, Self::Or { .. })) =>
                    {
                        write!(f, "({part})")?;
                    }
                    _ => write!(f, "{part}")?,
                }
            }
            Ok(())
        };
        match self {
            Self::All => f.write_str("all"),
            Self::In { values, .. } if values.is_empty() => f.write_str("not all"),
            Self::In { key, values } => {
                let quote = |text| Quote { text, key: false };
                let key = Quote { text: key, key: true };
                if let [one] = &values[..] {
                    return write!(f, "{key}={}", quote(one));
                }
                write!(f, "{key} in (")?;
                for (i, value) in values.iter().enumerate() {
                    write!(f, "{}{}", if i > 0 { ", " } else { "" }, quote(value))?;
                }
                f.write_str(")")
            }
            Self::Has { key } => write!(f, "has {}", Quote { text: key, key: true }),
            Self::Version { key, order, value } => {
                let (key, value) =
                    (Quote { text: key, key: true }, Quote { text: value, key: false });
                write!(f, "{key} {order} {value}")
            }
            Self::Not { of } => match &**of {
                Self::Or { of: parts } | Self::And { of: parts } if parts.len() > 1 => {
                    write!(f, "not ({of})")
                }
                _ => write!(f, "not {of}"),
            },
            Self::And { of } if of.is_empty() => f.write_str("all"),
            Self::Or { of } if of.is_empty() => f.write_str("not all"),
            Self::And { of } => chain(f, of, "and"),
            Self::Or { of } => chain(f, of, "or"),
        }
    }
}

#[cfg(test)]
mod tests;
