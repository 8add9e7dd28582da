//! XML, element by element: no document types, no entities but the five that XML itself has, bounded in depth and size.

use quick_xml::XmlVersion;
use quick_xml::errors::IllFormedError;
use quick_xml::events::{BytesStart, Event};
use quick_xml::reader::Reader;

/// Deepest nesting.
const MAX_DEPTH: usize = 64;
/// Most elements in one record.
const MAX_ELEMENTS: usize = 2_000_000;

/// An element with everything in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Element {
    /// Without its namespace's prefix.
    pub(super) name: String,
    attributes: Vec<(String, String)>,
    pub(super) children: Vec<Element>,
    /// Its own text, outer blanks removed.
    pub(super) text: String,
}

impl Element {
    /// An attribute; empty where it is not there.
    pub(super) fn attribute(&self, name: &str) -> &str {
        self.attributes.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value)
    }
    /// The first child of a name.
    pub(super) fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|c| c.name == name)
    }
    /// All children of a name.
    pub(super) fn children(&self, name: &str) -> impl Iterator<Item = &Self> {
        self.children.iter().filter(move |c| c.name == name)
    }
    /// Text of the first child of a name; empty where there is none.
    pub(super) fn text_of(&self, name: &str) -> &str {
        self.child(name).map_or("", |c| &c.text)
    }
    /// An attribute of the first child of a name.
    pub(super) fn attribute_of(&self, child: &str, name: &str) -> &str {
        self.child(child).map_or("", |c| c.attribute(name))
    }
}

/// Why a document cannot be read on.
#[derive(Debug)]
pub(super) struct BadXml {
    /// Byte of the document.
    pub(super) at: usize,
    pub(super) what: String,
    /// Does it only end too early?
    pub(super) cut: bool,
}

/// Reads a document.
pub(super) struct Xml<'a> {
    reader: Reader<&'a [u8]>,
    text: &'a str,
    depth: usize,
    /// Was there any element?
    any: bool,
}

/// What comes next.
pub(super) enum Next {
    /// An element begins.
    Start(Element),
    /// One ends.
    End,
    /// The document ends.
    Eof,
}

impl<'a> Xml<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let mut reader = Reader::from_str(text);
        reader.config_mut().expand_empty_elements = true;
        Self { reader, text, depth: 0, any: false }
    }

    /// Where it is: the rest of the document.
    pub(super) fn rest(&self) -> &'a str {
        let at = (self.reader.buffer_position() as usize).min(self.text.len());
        self.text.get(at..).unwrap_or_default()
    }

    /// Where it is: a byte of the document.
    pub(super) fn at(&self) -> usize {
        self.reader.buffer_position() as usize
    }

    fn bad(&self, what: impl ToString, cut: bool) -> BadXml {
        BadXml { at: self.reader.buffer_position() as usize, what: what.to_string(), cut }
    }

    /// The next beginning or end; text between them is passed over.
    pub(super) fn next(&mut self) -> Result<Next, BadXml> {
        loop {
            match self.event()? {
                Token::Start(element) => return Ok(Next::Start(element)),
                Token::End => return Ok(Next::End),
                Token::Text(_) => {}
                Token::Eof => return Ok(Next::Eof),
            }
        }
    }

    /// Everything in an element that has begun, to its end.
    pub(super) fn whole(&mut self, start: Element) -> Result<Element, BadXml> {
        let mut open = vec![start];
        let mut elements = 0;
        loop {
            let token = self.event()?;
            // Invariant: the first element is only taken off where the function returns.
            let Some(current) = open.last_mut() else { return Err(self.bad("no element", false)) };
            match token {
                Token::Start(element) => {
                    elements += 1;
                    if elements > MAX_ELEMENTS {
                        return Err(self
                            .bad(format!("a record of more than {MAX_ELEMENTS} elements"), false));
                    }
                    open.push(element);
                }
                Token::Text(text) => current.text.push_str(&text),
                Token::End => {
                    let mut done = open.pop().unwrap_or_default();
                    done.text = done.text.trim().to_owned();
                    match open.last_mut() {
                        None => return Ok(done),
                        Some(parent) => parent.children.push(done),
                    }
                }
                Token::Eof => return Err(self.bad("an element has no end", true)),
            }
        }
    }

    /// Passes over an element that has begun, to its end.
    pub(super) fn pass(&mut self) -> Result<(), BadXml> {
        let mut open = 1;
        while open > 0 {
            match self.next()? {
                Next::Start(_) => open += 1,
                Next::End => open -= 1,
                Next::Eof => return Err(self.bad("an element has no end", true)),
            }
        }
        Ok(())
    }

    fn event(&mut self) -> Result<Token, BadXml> {
        loop {
            let event = match self.reader.read_event() {
                Ok(event) => event,
                Err(e) => {
                    let at = self.reader.error_position() as usize;
                    let ended = self.reader.buffer_position() as usize >= self.text.len();
                    let cut = match &e {
                        quick_xml::Error::Syntax(_) => true,
                        quick_xml::Error::IllFormed(
                            IllFormedError::MismatchedEndTag { .. }
                            | IllFormedError::UnmatchedEndTag(_),
                        ) => false,
                        _ => ended,
                    };
                    return Err(BadXml { at, what: e.to_string(), cut });
                }
            };
            match event {
                Event::Start(start) => {
                    self.depth += 1;
                    self.any = true;
                    if self.depth > MAX_DEPTH {
                        return Err(
                            self.bad(format!("elements nest deeper than {MAX_DEPTH}"), false)
                        );
                    }
                    return element(&start).map(Token::Start).map_err(|e| self.bad(e, false));
                }
                Event::End(_) => {
                    self.depth = self.depth.saturating_sub(1);
                    return Ok(Token::End);
                }
                Event::Text(text) if self.depth > 0 => {
                    return Ok(Token::Text(text.xml10_content().into_owned()));
                }
                Event::Text(text) if text.trim().is_empty() => {}
                Event::Text(_) => return Err(self.bad("text outside of any element", false)),
                Event::CData(text) => return Ok(Token::Text(text.xml10_content().into_owned())),
                Event::GeneralRef(reference) => {
                    let name = reference.into_inner();
                    return match resolved(&name) {
                        Some(c) => Ok(Token::Text(c.to_string())),
                        None => Err(self.bad("an entity that XML itself does not have", false)),
                    };
                }
                Event::DocType(_) => return Err(self.bad("a document type: none is read", false)),
                Event::Eof if self.depth > 0 => {
                    return Err(self.bad("an element has no end", true));
                }
                Event::Eof if !self.any => return Err(self.bad("no element at all", true)),
                Event::Eof => return Ok(Token::Eof),
                Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
                // Not given while `expand_empty_elements` is on.
                Event::Empty(_) => {}
            }
        }
    }
}

enum Token {
    Start(Element),
    End,
    Text(String),
    Eof,
}

fn element(start: &BytesStart<'_>) -> Result<Element, String> {
    let mut attributes = Vec::new();
    for attribute in start.attributes() {
        let attribute = attribute.map_err(|e| e.to_string())?;
        let value =
            attribute.normalized_value(XmlVersion::Implicit1_0).map_err(|e| e.to_string())?;
        attributes.push((attribute.key.local_name().into_inner().to_owned(), value.into_owned()));
    }
    let name = start.local_name().into_inner().to_owned();
    Ok(Element { name, attributes, ..Element::default() })
}

/// XML 1.0, sections 4.1 and 4.6.
fn resolved(reference: &str) -> Option<char> {
    match reference {
        "lt" => return Some('<'),
        "gt" => return Some('>'),
        "amp" => return Some('&'),
        "apos" => return Some('\''),
        "quot" => return Some('"'),
        _ => {}
    }
    let number = reference.strip_prefix('#')?;
    let number = match number.strip_prefix('x') {
        Some(hex) => u32::from_str_radix(hex, 16),
        None => number.parse(),
    };
    char::from_u32(number.ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Element, BadXml> {
        let mut xml = Xml::new(text);
        match xml.next()? {
            Next::Start(start) => {
                let whole = xml.whole(start)?;
                while !matches!(xml.next()?, Next::Eof) {}
                Ok(whole)
            }
            _ => panic!("no element"),
        }
    }

    #[test]
    fn elements_attributes_and_text_are_read_and_the_five_entities_with_them() {
        let read = read("<?xml version=\"1.0\"?>\n<a:b x='1 &amp; 2'><!-- c --><c/>t &lt;&#65;<![CDATA[ <d> ]]></a:b>\n").unwrap();
        assert_eq!((read.name.as_str(), read.attribute("x")), ("b", "1 & 2"));
        assert_eq!((read.text.as_str(), read.children[0].name.as_str()), ("t <A <d>", "c"));
    }

    #[test]
    fn what_could_blow_up_or_is_cut_is_refused() {
        for (text, cut) in [
            ("<!DOCTYPE a [<!ENTITY b \"c\">]><a>&b;</a>", false),
            ("<a>&b;</a>", false),
            ("<a x=\"&b;\"/>", false),
            ("<a>", true),
            ("<a><b></a>", false),
            ("text", false),
            ("", true),
            (&"<a>".repeat(65), false),
        ] {
            let bad = read(text).unwrap_err();
            assert_eq!(bad.cut, cut, "{text}: {}", bad.what);
            assert!(!bad.what.is_empty());
        }
    }
}
